"""A user's own translations, from a JSONL or TSV file."""

from __future__ import annotations

from pathlib import Path

from edgelr.errors import DataError
from edgelr.examples import Translation
from edgelr.load.rows import FileRow, distinct, normalized, read_rows

_COLUMNS = ("source", "target", "group", "id")


def read_translations(path: Path) -> tuple[Translation, ...]:
    """Read ``{"source", "target", "group"?, "id"?}`` rows, or tab-separated columns in that order.

    Rows without a group are split one by one, except that rows with the same source, but for case and spaces,
    stay together: a text of the test must not be one that was trained on.

    Args:
        path: A ``.jsonl`` or ``.tsv`` file in UTF-8.

    Raises:
        DataError: The file is missing, empty, a line is malformed (file and line are named), or source and
            target are the same text in every row.
    """
    examples = distinct((row, _example(row)) for row in read_rows(path, _COLUMNS))
    if all(example.source == example.target for example in examples):
        raise DataError(
            f"{path}: source and target are the same text in every row ({len(examples)})",
            f"the columns may be mixed up: they are {', '.join(_COLUMNS)}",
        )
    return examples


def _example(row: FileRow) -> Translation:
    source, target = row.required("source").strip(), row.required("target").strip()
    return Translation(
        id=row.id, group=row.texts.get("group") or normalized(source), source=source, target=target
    )
