"""Texts with more tokens than an encoder takes, cut into pieces: at ends of sentences, else at spaces."""

from __future__ import annotations

import re
from collections.abc import Callable

# The end of a sentence: its marks, closing quotes and brackets, then a space; East Asian marks need no space.
_SENTENCE_END = re.compile("[.!?…।؟۔][\"'”’»)\\]]*\\s+|[。！？]+[」』”’）]*|\\n+")
_SPACE = re.compile(r"\s+")
_FIRST_GUESS = 2048  # characters; more are tried only where all of these fit


def pieces_of(text: str, fits: Callable[[str], bool], lead: str = "") -> list[str]:
    """Cut a text into pieces that fit, in order; spaces at the cuts are dropped.

    Args:
        text: Any text; one that fits is one piece as it is.
        fits: Whether a piece is short enough. A single character is a piece even if it is not.
        lead: What every piece begins with; the text itself begins with it.

    Returns:
        At least one piece.
    """
    if fits(text):
        return [text]
    pieces: list[str] = []
    rest = text[len(lead) :].strip()
    while rest:
        cut = _cut(rest, lambda piece: fits(lead + piece))
        pieces.append(lead + rest[:cut].strip())
        rest = rest[cut:].strip()
    return pieces


def _cut(text: str, fits: Callable[[str], bool]) -> int:
    """Where the first piece ends: at the last end of a sentence that fits, else at the last space."""
    longest = _longest_fit(text, fits)
    while longest < len(text):
        cut = _last_end(_SENTENCE_END, text, longest) or _last_end(_SPACE, text, longest) or longest
        # A shorter text may have more tokens: a cut word is spelled in smaller ones.
        if cut == 1 or fits(text[:cut].strip()):
            return cut
        longest = cut - 1
    return longest


def _longest_fit(text: str, fits: Callable[[str], bool]) -> int:
    """Length of the longest beginning that fits, by bisection; at least 1."""
    short, long = 1, min(_FIRST_GUESS, len(text))
    while fits(text[:long]):
        if long == len(text):
            return long
        short, long = long, min(2 * long, len(text))
    while long - short > 1:
        middle = (short + long) // 2
        short, long = (middle, long) if fits(text[:middle]) else (short, middle)
    return short


def _last_end(pattern: re.Pattern[str], text: str, longest: int) -> int:
    """Where the last match within ``longest`` characters ends, a space right behind them aside; else 0."""
    behind = 1 if text[longest].isspace() else 0
    ends = [match.end() for match in pattern.finditer(text, 0, longest + behind)]
    return min(ends[-1], longest) if ends else 0
