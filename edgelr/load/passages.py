"""Texts to be read by a language model: a user's own, or Python's documentation as running text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgelr.errors import DataError
from edgelr.examples import Example, Passage
from edgelr.load.rows import distinct, file_text, normalized, read_rows

_COLUMNS = ("text", "group", "id")
_PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")  # lines that are not blank


def read_passages(path: Path) -> tuple[Passage, ...]:
    """Read ``{"text", "group"?, "id"?}`` rows, or the paragraphs of a plain text.

    Passages without a group are split one by one, except that equal ones, but for case and spaces, stay
    together: a text of the test must not be one that was trained on.

    Args:
        path: A ``.jsonl`` file, or ``.txt`` with blank lines between paragraphs; in UTF-8.

    Raises:
        DataError: The file is missing, empty or of another kind, or a line is malformed (file and line are
            named).
    """
    if path.suffix == ".txt":
        return tuple(_paragraphs(path))
    if path.suffix != ".jsonl":
        raise DataError(
            f"{path}: texts are .jsonl or .txt, found '{path.suffix or path.name}'",
            'write one JSON object a line, such as {"text": …}, or paragraphs with blank lines between them',
        )
    rows = ((row, row.required("text")) for row in read_rows(path, _COLUMNS))
    return distinct(
        (row, Passage(id=row.id, group=row.texts.get("group") or normalized(text), text=text))
        for row, text in rows
    )


def as_passages(examples: Sequence[Example]) -> tuple[Passage, ...]:
    """Questions and their answers as running text: what a docstring says, its summary first.

    Args:
        examples: As of ``python_docs.collect``.
    """
    return tuple(
        Passage(id=each.id, group=each.group, text=" ".join(filter(None, (each.query, each.passage))))
        for each in examples
    )


def _paragraphs(path: Path) -> Iterator[Passage]:
    text = file_text(path)
    found = list(_PARAGRAPH.finditer(text))
    if not found:
        raise DataError(f"{path} is empty", "paragraphs of text are needed, with blank lines between them")
    for each in found:
        number = text.count("\n", 0, each.start()) + 1
        yield Passage(id=f"line-{number}", group=normalized(each.group()), text=each.group())
