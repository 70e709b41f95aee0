"""How alike the named outputs of two graphs are, example by example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.metrics.scores import Scores, mean_scores

Outputs = Sequence[Mapping[str, NDArray[Any]]]
"""Name -> array, an example an entry."""


def array_scores(
    own: Outputs, dense: Outputs, metric: NDArray[np.float64] | None = None
) -> dict[str, Scores]:
    """Every metric of outputs that nothing is known of.

    ``cosine`` is of each output of an example, all its numbers as one vector, on average; of several outputs,
    ``cosine of <name>`` is that of each. Of whole numbers it is the share of equal ones. ``difference`` is
    the largest absolute difference in an example, on average over the examples.

    Args:
        own: A model's, of the shapes that the dense model's have.
        dense: The dense model's, of the same examples.
        metric: What the user's own function says of each example, ``[examples]``; None without one.

    Returns:
        ``cosine``, ``difference``, ``metric`` when there is one, and the cosine of each of several outputs.
    """
    pairs = list(zip(own, dense, strict=True))
    names = list(dense[0])
    cosines = {name: [alike(one[name], other[name]) for one, other in pairs] for name in names}
    furthest = [max(_difference(one[name], other[name]) for name in names) for one, other in pairs]
    found = {
        "cosine": mean_scores(np.mean(list(cosines.values()), axis=0)),
        "difference": mean_scores(np.array(furthest)),
    }
    if metric is not None:
        found["metric"] = mean_scores(metric)
    if len(names) > 1:
        found |= {f"cosine of {name}": mean_scores(np.array(cosines[name])) for name in names}
    return found


def alike(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Cosine of two arrays of the same shape, as vectors; of whole numbers the share of equal ones.

    Two arrays of zeros are alike, and zeros are like nothing else: 1 and 0.

    Args:
        one: Of any shape.
        other: Likewise.
    """
    if not np.issubdtype(one.dtype, np.floating):
        return float(np.mean(one == other)) if one.size else 1.0
    first, second = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    if norms == 0:
        return float(not first.any() and not second.any())
    return float(first @ second / norms)


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    if not np.issubdtype(one.dtype, np.number):
        return float(np.any(one != other))
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))
