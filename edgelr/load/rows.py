"""Rows of a user's own data file: JSON lines or tab-separated columns, with where each was found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelr.errors import DataError
from edgelr.examples import Row


@dataclass(frozen=True)
class FileRow:
    """One line of a data file.

    Attributes:
        where: File and line, such as ``pairs.tsv:7``.
        number: The line, from 1.
        texts: By column; those that the line leaves out are absent.
    """

    where: str
    number: int
    texts: dict[str, str]

    @property
    def id(self) -> str:
        """The row's own id, or one made of its line."""
        return self.texts.get("id") or f"line-{self.number}"

    def required(self, column: str) -> str:
        """The text of a column.

        Raises:
            DataError: There is none, or only white space.
        """
        text = self.texts.get(column, "")
        if not text.strip():
            raise DataError(
                f"{self.where}: '{column}' is missing or empty", "give it a text, or take the line out"
            )
        return text


def read_rows(path: Path, columns: Sequence[str], *, needed: int = 2) -> list[FileRow]:
    """Read JSON objects with these keys, or tab-separated columns in this order.

    Args:
        path: A ``.jsonl`` or ``.tsv`` file in UTF-8; blank lines are skipped.
        columns: Every column there may be.
        needed: How many of them a tab-separated line has at least.

    Raises:
        DataError: The file is missing, empty or of another kind, or a line is malformed (file and line are
            named).
    """
    if path.suffix not in {".jsonl", ".tsv"}:
        raise DataError(
            f"{path}: a data file is .jsonl or .tsv, found '{path.suffix or path.name}'",
            f"write one JSON object a line, such as {_shape(columns)}, or columns between tabs",
        )
    lines = _lines(path)
    if not lines:
        raise DataError(f"{path} is empty", "one pair a line is needed")
    rows = []
    for number, line in lines:
        where = f"{path}:{number}"
        is_json = path.suffix == ".jsonl"
        texts = _json_texts(where, line, columns) if is_json else _tsv_texts(where, line, columns, needed)
        rows.append(FileRow(where, number, _checked(where, texts, columns)))
    return rows


def distinct(found: Iterable[tuple[FileRow, Row]]) -> tuple[Row, ...]:
    """The examples, in order.

    Args:
        found: Each with the row that it was made of.

    Raises:
        DataError: Two have the same id; the second one's line is named.
    """
    examples: dict[str, Row] = {}
    for row, example in found:
        if example.id in examples:
            raise DataError(
                f"{row.where}: another row has the id '{example.id}'",
                "ids name an example; make them distinct",
            )
        examples[example.id] = example
    return tuple(examples.values())


def normalized(text: str) -> str:
    """What two texts have in common that differ only in case and spaces: rows with the same are not split."""
    return " ".join(text.casefold().split())


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not blank, with their numbers; only a newline ends one, not U+2028 within a text."""
    lines = file_text(path).split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def file_text(path: Path) -> str:
    """The text of a user's file.

    Args:
        path: In UTF-8.

    Raises:
        DataError: It is missing, or no such text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "paths are relative to the recipe's folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}", "save it as UTF-8") from error


def _json_texts(where: str, line: str, columns: Sequence[str]) -> dict[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON: {error}", f"each line is one object, such as {_shape(columns)}"
        ) from error
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        raise DataError(f"{where}: expected an object of texts such as {_shape(columns)}")
    return row


def _tsv_texts(where: str, line: str, columns: Sequence[str], needed: int) -> dict[str, str]:
    cells = line.split("\t")
    if not needed <= len(cells) <= len(columns):
        raise DataError(
            f"{where}: expected {needed} to {len(columns)} tab-separated columns "
            f"({', '.join(columns)}), found {len(cells)}",
            "put one tab between two columns, and none inside a text",
        )
    return dict(zip(columns, cells, strict=False))


def _checked(where: str, texts: dict[str, str], columns: Sequence[str]) -> dict[str, str]:
    if unknown := sorted(set(texts) - set(columns)):
        raise DataError(f"{where}: unknown field {', '.join(unknown)}; known are {', '.join(columns)}")
    if any("\ud800" <= character <= "\udfff" for value in texts.values() for character in value):
        raise DataError(
            f"{where}: half a character (a lone surrogate such as \\ud800) is not text",
            "write the whole character, or take it out",
        )
    return texts


def _shape(columns: Sequence[str]) -> str:
    return f'{{"{columns[0]}": …, "{columns[1]}": …}}'
