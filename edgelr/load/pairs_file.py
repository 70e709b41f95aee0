"""A user's own pairs, from a JSONL or TSV file."""

from __future__ import annotations

from pathlib import Path

from edgelr.examples import Example
from edgelr.load.rows import FileRow, distinct, normalized, read_rows

_COLUMNS = ("query", "passage", "group", "id")


def read_pairs(path: Path) -> tuple[Example, ...]:
    """Read ``{"query", "passage", "group"?, "id"?}`` rows, or tab-separated columns in that order.

    Rows without a group are split one by one, except that rows with the same passage stay together: a passage
    of the test must not be one that was trained on.

    Args:
        path: A ``.jsonl`` or ``.tsv`` file in UTF-8.

    Raises:
        DataError: The file is missing, empty, or a line is malformed (file and line are named).
    """
    groups: dict[str, str] = {}
    return distinct((row, _example(row, groups)) for row in read_rows(path, _COLUMNS))


def _example(row: FileRow, groups: dict[str, str]) -> Example:
    passage = row.required("passage")
    return Example(
        id=row.id,
        group=row.texts.get("group") or groups.setdefault(normalized(passage), row.id),
        passage=passage,
        query=row.texts.get("query", "").strip() or None,
    )
