"""A user's own tagged texts, from a CoNLL, JSONL or TSV file."""

from __future__ import annotations

from pathlib import Path

from edgelr.errors import DataError
from edgelr.examples import Tagged
from edgelr.load.rows import FileRow, distinct, normalized, read_rows

_COLUMNS = ("text", "tags", "group", "id")


def read_tagged(path: Path) -> tuple[Tagged, ...]:
    """Read ``{"text", "tags", "group"?, "id"?}`` rows, with a tag for every word between spaces.

    Args:
        path: A ``.jsonl`` file; a ``.tsv`` with the columns in that order; or a ``.conll``: a line a word,
            its last column the tag, and a blank line between texts.

    Raises:
        DataError: The file is missing, empty, or a line is malformed (file and line are named).
    """
    rows = _conll_rows(path) if path.suffix == ".conll" else read_rows(path, _COLUMNS)
    groups: dict[str, str] = {}
    return distinct((row, _example(row, groups)) for row in rows)


def _conll_rows(path: Path) -> list[FileRow]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "paths are relative to the recipe's folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}", "save it as UTF-8") from error
    rows: list[FileRow] = []
    words: list[list[str]] = []
    for number, line in enumerate([*lines, ""], start=1):
        cells = line.split()
        if cells and cells[0] != "-DOCSTART-":
            if len(cells) < 2:
                raise DataError(f"{path}:{number}: a word without a tag: {line!r}", "a word, a space, a tag")
            words.append(cells)
        elif words:
            text, tags = (" ".join(each[at] for each in words) for at in (0, -1))
            texts = {"text": text, "tags": tags}
            rows.append(FileRow(f"{path}:{number - len(words)}", number - len(words), texts))
            words = []
    return rows


def _example(row: FileRow, groups: dict[str, str]) -> Tagged:
    text, tags = " ".join(row.required("text").split()), " ".join(row.required("tags").split())
    if len(text.split()) != len(tags.split()):
        raise DataError(
            f"{row.where}: {len(text.split())} words have {len(tags.split())} tags",
            "words are what is between spaces, and each has one tag",
        )
    group = row.texts.get("group") or groups.setdefault(normalized(text), row.id)
    return Tagged(id=row.id, group=group, text=text, tags=tags)
