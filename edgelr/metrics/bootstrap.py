"""How sure a metric is: the percentile bootstrap over its examples."""

from __future__ import annotations

import numpy as np

from edgelr.metrics.scores import Scores, difference_scores

_CHUNK_VALUES = 4_000_000  # bounds the memory of one batch of resamples


def interval(
    scores: Scores, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Value of a metric with a percentile bootstrap interval.

    Args:
        scores: The metric's.
        seed: The same seed gives the same interval.
        resamples: How often to draw as many examples as there are, with replacement.
        level: Share of the resampled values inside the interval.

    Returns:
        Value, lower end, upper end.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    draw = np.random.default_rng(seed)
    size = scores.examples
    rows = max(1, _CHUNK_VALUES // size)
    values = np.concatenate(
        [
            scores.resampled(draw.integers(0, size, (min(rows, resamples - start), size)))
            for start in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return scores.value, float(low), float(high)


def difference(
    candidate: Scores, dense: Scores, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """How far a candidate is from the dense model, with the interval of a paired comparison.

    Every resample draws the same examples for both. What makes an example hard for either cancels out, so the
    interval is much tighter than what the two of their own suggest.

    Args:
        candidate: The candidate's scores.
        dense: The dense model's, on the same examples in the same order.
        seed: As of ``interval``, like all that follow.
        resamples: How often to draw.
        level: Share inside the interval.

    Returns:
        Candidate less dense, lower end, upper end.

    Raises:
        ValueError: They have different numbers of examples.
    """
    return interval(difference_scores(candidate, dense), seed=seed, resamples=resamples, level=level)
