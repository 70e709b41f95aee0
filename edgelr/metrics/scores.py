"""What a metric is made of: statistics of every example, and how their sums give its value.

A mean is the sum of one statistic over the number of examples. BLEU and chrF are no means of anything an
example has; but they are functions of sums too, so that intervals and differences are drawn the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Combine = Callable[[Values, int], Values]
"""(sums of the statistics ``[..., k]``, how many examples are in them) -> values of the metric ``[...]``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """One metric of one model on some examples.

    Attributes:
        statistics: One row an example, ``[examples, k]``, at least one.
        combine: What makes the metric of their sums.
    """

    statistics: Values
    combine: Combine

    def __post_init__(self) -> None:
        if self.statistics.ndim != 2 or 0 in self.statistics.shape:
            raise ValueError(f"statistics of no examples: {list(self.statistics.shape)}")

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(self.statistics)

    @property
    def value(self) -> float:
        """The metric over all examples."""
        sums = np.array([column.sum() for column in self.statistics.T])
        return float(self.combine(sums, self.examples))

    def resampled(self, draws: NDArray[np.int64]) -> Values:
        """The metric over other choices of the same examples.

        Args:
            draws: Indices of examples, ``[resamples, drawn]``.

        Returns:
            ``[resamples]``.
        """
        # Column by column: all at once would need k times the memory.
        sums = [column[draws].sum(axis=1) for column in self.statistics.T]
        return self.combine(np.stack(sums, axis=-1), draws.shape[1])


def mean_scores(values: Values) -> Scores:
    """A metric that is the mean of one value an example.

    Args:
        values: ``[examples]``, at least one.

    Raises:
        ValueError: There is no value.
    """
    return Scores(statistics=np.asarray(values, np.float64)[:, None], combine=_mean)


def difference_scores(candidate: Scores, dense: Scores) -> Scores:
    """How far two models are from each other in one metric, as a metric of its own: candidate less dense.

    Args:
        candidate: One model.
        dense: Another, on the same examples in the same order.

    Raises:
        ValueError: They have different numbers of examples.
    """
    if candidate.examples != dense.examples:
        raise ValueError(f"{candidate.examples} and {dense.examples} examples are no pairs")
    if candidate.combine is _mean and dense.combine is _mean:
        # The same number, but exactly 0 where no example differs.
        return Scores(statistics=candidate.statistics - dense.statistics, combine=_mean)
    split = candidate.statistics.shape[1]

    def combine(sums: Values, examples: int) -> Values:
        first, second = sums[..., :split], sums[..., split:]
        return candidate.combine(first, examples) - dense.combine(second, examples)

    return Scores(statistics=np.hstack([candidate.statistics, dense.statistics]), combine=combine)


def _mean(sums: Values, examples: int) -> Values:
    mean: Values = sums[..., 0] / examples
    return mean
