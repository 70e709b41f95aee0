"""A user's own pairs, from a JSONL or TSV file."""

from __future__ import annotations

import json
from pathlib import Path

from edgelr.errors import DataError
from edgelr.examples import Example

_COLUMNS = ("query", "passage", "group", "id")


def read_pairs(path: Path) -> tuple[Example, ...]:
    """Read ``{"query", "passage", "group"?, "id"?}`` rows, or tab-separated columns in that order.

    A row without a group is its own group: rows are then split one by one.

    Raises:
        DataError: The file is missing, empty, or a line is malformed (file and line are named).
    """
    if path.suffix not in {".jsonl", ".tsv"}:
        raise DataError(f"{path}: a pairs file is .jsonl or .tsv, found '{path.suffix or path.name}'")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "paths are relative to the recipe's folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise DataError(f"{path} is empty", "one pair a line is needed")
    parse = _json_row if path.suffix == ".jsonl" else _tsv_row
    examples = [
        _example(parse(f"{path}:{number}", line), f"{path}:{number}", number) for number, line in rows
    ]
    _check_distinct(examples, path)
    return tuple(examples)


def _json_row(where: str, line: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        raise DataError(f'{where}: expected an object of texts such as {{"query": …, "passage": …}}')
    return row


def _tsv_row(where: str, line: str) -> dict[str, str]:
    cells = line.split("\t")
    if not 2 <= len(cells) <= len(_COLUMNS):
        raise DataError(
            f"{where}: expected 2 to 4 tab-separated columns ({', '.join(_COLUMNS)}), found {len(cells)}"
        )
    return dict(zip(_COLUMNS, cells, strict=False))


def _example(row: dict[str, str], where: str, number: int) -> Example:
    if unknown := sorted(set(row) - set(_COLUMNS)):
        raise DataError(f"{where}: unknown field {', '.join(unknown)}; known are {', '.join(_COLUMNS)}")
    if not row.get("passage", "").strip():
        raise DataError(f"{where}: 'passage' is missing or empty")
    name = row.get("id") or f"line-{number}"
    return Example(
        id=name,
        group=row.get("group") or name,
        passage=row["passage"],
        query=row.get("query", "").strip() or None,
    )


def _check_distinct(examples: list[Example], path: Path) -> None:
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(
                f"{path}: two rows have the id '{example.id}'", "ids name an example; make them distinct"
            )
        seen.add(example.id)
