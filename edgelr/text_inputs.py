"""Texts that a command is given: as its arguments, or as lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edgelr.errors import DataError, UsageError

STANDARD_INPUT = "-"
NO_INPUT = "give a text in quotes, or - to read lines from standard input"


def read_texts(inputs: Sequence[str]) -> list[str]:
    """The inputs, with the lines of standard input in the place of ``-``; empty lines are left out.

    Args:
        inputs: Of a command line.

    Raises:
        UsageError: There is no input.
        DataError: Standard input holds no text.
    """
    if not inputs:
        raise UsageError("there is no input", NO_INPUT)
    texts: list[str] = []
    for text in inputs:
        if text == STANDARD_INPUT:
            lines = sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()
            texts += [line for line in lines if line.strip()]
        else:
            texts.append(text)
    if not texts:
        raise DataError("standard input holds no text", "give one text a line")
    return texts
