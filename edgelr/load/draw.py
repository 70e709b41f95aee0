"""Random choices for data that are made, the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Random choices that are the same on every machine and every version of Python.

    Args:
        seed: A text; ``random.Random`` promises to repeat ``random()`` for it, and nothing else is used.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def below(self, end: int) -> int:
        """A whole number from 0 to ``end - 1``."""
        return int(self._random.random() * end)

    def between(self, first: int, last: int) -> int:
        """A whole number from ``first`` to ``last``, both included."""
        return first + self.below(last - first + 1)

    def pick(self, choices: Sequence[T]) -> T:
        """One of ``choices``."""
        return choices[self.below(len(choices))]

    def weighted(self, shares: Mapping[str, float]) -> str:
        """A key of ``shares``, as often as its share says."""
        point = self._random.random() * sum(shares.values())
        for name, share in shares.items():
            point -= share
            if point < 0:
                return name
        return name
