"""Two calls of a graph as one: devices choose other kernels for a batch, and masks count then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import Graph

Feeds = Mapping[str, NDArray[Any]]
BATCH = "batch"


def with_a_pair(feeds: Sequence[Feeds], graph: Graph) -> list[Feeds]:
    """Calls of one row each, and one of two rows: the second call, with the last that can be beside it.

    Args:
        feeds: Calls, one row each.
        graph: Its inputs with an axis ``batch`` come first have a row a text; all others have to be equal.

    Returns:
        The calls, and one more where there are two that fit together: the shorter one filled up with zeros,
        which its mask says.
    """
    batched = {entry.name for entry in graph.inputs if entry.shape[:1] == (BATCH,)}
    if len(feeds) < 2 or not batched:
        return list(feeds)
    one = feeds[1]
    for other in reversed(feeds):
        if other is not one and _equal(one, other, batched):
            return [*feeds, {name: _joined(one[name], other[name], name in batched) for name in one}]
    return list(feeds)


def _equal(one: Feeds, other: Feeds, batched: set[str]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one.keys() - batched)


def _joined(one: NDArray[Any], other: NDArray[Any], batched: bool) -> NDArray[Any]:
    if not batched:
        return one
    longest = [max(sizes) for sizes in zip(one.shape[1:], other.shape[1:], strict=True)]
    filled = [
        np.pad(
            each, [(0, 0), *((0, most - size) for most, size in zip(longest, each.shape[1:], strict=True))]
        )
        for each in (one, other)
    ]
    return np.concatenate(filled)
