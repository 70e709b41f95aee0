"""A user's own interactions, from CSV or Parquet."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelr.errors import DataError, MissingRequirementError
from edgelr.load.interactions import Met

Row = tuple[str, Mapping[str, Any]]
"""Where a row is, and its columns."""

_COLUMNS = ("user", "item", "time")


def read_interactions(path: Path, titles: Path | None, liked: float, people: Path | None = None) -> Met:
    """Read the columns ``user``, ``item``, ``time``, and ``rating`` where there is one; others are not read.

    Args:
        path: A ``.csv`` file in UTF-8 with a heading, or a ``.parquet`` file.
        titles: Likewise, with the columns ``item`` and ``title``; others are facts. Or None.
        liked: The least rating that is a like. Without ratings every interaction is one.
        people: Likewise, with the column ``user``; others are facts. Or None.

    Raises:
        DataError: A file is missing, empty or of another kind, a column is missing, or a value is no number;
            file and line are named.
        MissingRequirementError: Parquet cannot be read here.
    """
    users, items, times, likes, where = [], [], [], [], []
    for place, row in _table(path, _COLUMNS):
        users.append(_text(place, row, "user"))
        items.append(_text(place, row, "item"))
        times.append(_number(place, row, "time"))
        likes.append("rating" not in row or _number(place, row, "rating") >= liked)
        where.append(place)
    if not users:
        raise DataError(f"{path} has no interactions", "one a line is needed, under the heading")
    return Met(
        users=users,
        items=items,
        times=np.array(times),
        liked=np.array(likes, np.bool_),
        where=where,
        titles={} if titles is None else read_titles(titles),
        user_facts={} if people is None else read_facts(people, ("user",)),
        item_facts={} if titles is None else read_facts(titles, ("item", "title")),
    )


def read_facts(path: Path, known: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """What each row of a table says besides the columns that are known; the first of these names it.

    Args:
        path: As of ``read_interactions``.
        known: Columns that it has at least.

    Returns:
        Name -> a fact for each word of each other column, such as ``genre: comedy``; words stand with ``|``
        between.

    Raises:
        DataError, MissingRequirementError: Likewise.
    """
    facts = {}
    for place, row in _table(path, known):
        words = [
            (column, word.strip())
            for column, value in row.items()
            if column not in known and value is not None
            for word in str(value).split("|")
        ]
        facts[_text(place, row, known[0])] = tuple(f"{column}: {word}" for column, word in words if word)
    return facts


def read_titles(path: Path) -> dict[str, str]:
    """Item -> title, out of a table with these two columns.

    Args:
        path: As of ``read_interactions``.

    Raises:
        DataError, MissingRequirementError: Likewise.
    """
    rows = _table(path, ("item", "title"))
    return {_text(place, row, "item"): " ".join(_text(place, row, "title").split()) for place, row in rows}


def _table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    if not path.is_file():
        raise DataError(f"{path} does not exist", "paths are relative to the recipe's folder")
    match path.suffix:
        case ".csv":
            return _csv_rows(path, columns)
        case ".parquet":
            return _parquet_rows(path, columns)
        case _:
            raise DataError(f"{path}: interactions are .csv or .parquet", "write one of these")


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            _check_columns(f"{path}:1", reader.fieldnames or (), columns)
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(
                        f"{place}: the heading has {len(reader.fieldnames or ())} columns, this line has not",
                        "put a value, or nothing between two commas, in each",
                    )
                yield place, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}", "save it as UTF-8 text") from error


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        from pyarrow import parquet
        from pyarrow.lib import ArrowException
    except ImportError as error:
        raise MissingRequirementError(
            f"{path}: pyarrow is not installed", "pip install 'edgelr[recommendation]'"
        ) from error
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}", "write it again") from error
    _check_columns(str(path), table.column_names, columns)
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path}: row {number}", row


def _check_columns(where: str, found: Sequence[str], wanted: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"{where}: the column {' and '.join(map(repr, missing))} is missing; "
            f"there are {', '.join(found) or 'none'}",
            f"name the columns {', '.join(wanted)} in the first line",
        )


def _text(where: str, row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    text = "" if value is None else str(value).strip()
    if not text or "\t" in text or len(text.splitlines()) > 1:
        found = "empty" if not text else "more than one line, or has a tab in it"
        raise DataError(
            f"{where}: '{column}' is {found}", "give each row one short name; leave out the others"
        )
    return text


def _number(where: str, row: Mapping[str, Any], column: str) -> float:
    value = row[column]
    seconds = getattr(value, "timestamp", None)  # of a date in Parquet
    try:
        number = float(seconds()) if callable(seconds) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{where}: '{column}' is {value!r}, no number",
            "times are seconds since 1970, or any number that grows with time" if column == "time" else None,
        )
    return number
