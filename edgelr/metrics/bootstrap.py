"""How sure a mean is: the percentile bootstrap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK_VALUES = 4_000_000  # bounds the memory of one batch of resamples


def mean_interval(
    values: NDArray[np.float64], *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of ``values`` with a percentile bootstrap interval.

    Args:
        values: One value an example, ``[n]``, n >= 1. Differences of two models on the same examples give the
            interval of a paired comparison.
        seed: The same seed gives the same interval.
        resamples: How often to draw n examples with replacement.
        level: Share of the resampled means inside the interval.

    Returns:
        Mean, lower end, upper end.

    Raises:
        ValueError: There is no value.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if len(values) == 0:
        raise ValueError("no interval around the mean of no values")
    draw = np.random.default_rng(seed)
    size = len(values)
    rows = max(1, _CHUNK_VALUES // size)
    means = np.concatenate(
        [
            values[draw.integers(0, size, (min(rows, resamples - start), size))].mean(axis=1)
            for start in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)
