"""A user's own pairs, from a JSONL or TSV file."""

from __future__ import annotations

import json
from pathlib import Path

from edgelr.errors import DataError
from edgelr.examples import Example

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
    if path.suffix not in {".jsonl", ".tsv"}:
        raise DataError(f"{path}: a pairs file is .jsonl or .tsv, found '{path.suffix or path.name}'")
    rows = _lines(path)
    if not rows:
        raise DataError(f"{path} is empty", "one pair a line is needed")
    parse = _json_row if path.suffix == ".jsonl" else _tsv_row
    groups: dict[str, str] = {}
    examples: dict[str, Example] = {}
    for number, line in rows:
        where = f"{path}:{number}"
        example = _example(parse(where, line), where, number, groups)
        if example.id in examples:
            raise DataError(
                f"{where}: another row has the id '{example.id}'", "ids name an example; make them distinct"
            )
        examples[example.id] = example
    return tuple(examples.values())


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not blank, with their numbers; only a newline ends one, not U+2028 within a text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "paths are relative to the recipe's folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _json_row(where: str, line: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
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


def _example(row: dict[str, str], where: str, number: int, groups: dict[str, str]) -> Example:
    if unknown := sorted(set(row) - set(_COLUMNS)):
        raise DataError(f"{where}: unknown field {', '.join(unknown)}; known are {', '.join(_COLUMNS)}")
    if any("\ud800" <= character <= "\udfff" for value in row.values() for character in value):
        raise DataError(f"{where}: half a character (a lone surrogate such as \\ud800) is not text")
    passage = row.get("passage", "")
    if not passage.strip():
        raise DataError(f"{where}: 'passage' is missing or empty")
    name = row.get("id") or f"line-{number}"
    return Example(
        id=name,
        group=row.get("group") or groups.setdefault(" ".join(passage.casefold().split()), name),
        passage=passage,
        query=row.get("query", "").strip() or None,
    )
