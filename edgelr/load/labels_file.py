"""A user's own labeled texts, from a CSV, JSONL or TSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgelr.artifacts import Split
from edgelr.errors import DataError
from edgelr.examples import AnyExample, Labeled, Tagged
from edgelr.load.rows import FileRow, distinct, normalized, read_rows
from edgelr.runtime.labels import label_rows

_COLUMNS = ("text", "label", "group", "id")


def read_labeled(path: Path) -> tuple[Labeled, ...]:
    """Read ``{"text", "label", "group"?, "id"?}`` rows.

    Rows without a group are split one by one, except that rows with the same text stay together.

    Args:
        path: A ``.jsonl`` file; a ``.tsv`` with the columns in that order; or a ``.csv`` with a heading, in
            UTF-8, whose other columns are passed over.

    Raises:
        DataError: The file is missing, empty, or a line is malformed (file and line are named).
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else read_rows(path, _COLUMNS)
    groups: dict[str, str] = {}
    return distinct((row, _example(row, groups)) for row in rows)


def check_labels(splits: Mapping[Split, Sequence[AnyExample]], known: Sequence[str]) -> None:
    """Make sure that the model has every label of the examples, before anything is computed.

    Args:
        splits: Of labeled or tagged texts.
        known: The model's labels.

    Raises:
        DataError: It lacks one.
    """
    for examples in splits.values():
        label_rows(known, [each.label for each in examples if isinstance(each, Labeled)])
        label_rows(known, [tag for each in examples if isinstance(each, Tagged) for tag in each.tags.split()])


def _csv_rows(path: Path) -> list[FileRow]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        heading = reader.fieldnames or ()
        if missing := [name for name in _COLUMNS[:2] if name not in heading]:
            raise DataError(
                f"{path}: the column '{missing[0]}' is missing, found {', '.join(heading) or 'none'}",
                "its first line names the columns: text,label",
            )
        rows = []
        for row in reader:
            found = {name: row[name] for name in _COLUMNS if row.get(name)}
            rows.append(FileRow(f"{path}:{reader.line_num}", reader.line_num, found))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "paths are relative to the recipe's folder") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}", "save it as CSV in UTF-8") from error
    return rows


def _example(row: FileRow, groups: dict[str, str]) -> Labeled:
    text = row.required("text")
    group = row.texts.get("group") or groups.setdefault(normalized(text), row.id)
    return Labeled(id=row.id, group=group, text=text, label=row.required("label").strip())
