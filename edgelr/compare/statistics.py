"""When a slowdown is one: decisions about log ratios of restarts, which are what is independent.

Calls within a process share its memory layout and its minute, so a thousand of them are no thousand
observations. One *restart* is: fresh processes for both sides and for the base once more (the twin), timed in
turn. It gives one log ratio of the candidate to both processes of the base, and one of the twin to the base's
first, which is what this machine calls a difference when there is none.

The pseudo-median of the log ratios and its confidence interval come from Wilcoxon's signed ranks: no
assumption but symmetry, and a neighbour that ruins a few restarts moves neither. Looking again and again at
growing data would find something in the end, so looks are few, and each spends its part of the error. A
regression has to be found twice, in rounds that share no restart. Both have to err for a false alarm, so the
second may err more often, and in turn it forgives a single process that is slow throughout.

Source:
    Hodges and Lehmann, Estimates of location based on rank tests (1963); Hollander and Wolfe, Nonparametric
    Statistical Methods, chapter 3, for the exact distribution and the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from statistics import median
from typing import Literal

Outcome = Literal["pass", "regression", "inconclusive"]

ALPHA = 0.02  # of a false answer on one side, over all looks of the first round
LOOKS = (9, 12, 18, 27, 40, 60)  # restarts after which the data are looked at
ALPHA_PER_LOOK = ALPHA / len(LOOKS)
# Of the round that is to see a regression again: a false alarm is one of at most 0.02 x 3 x 0.02 = 0.0012.
LOOKS_AGAIN = LOOKS[:3]
ALPHA_PER_LOOK_AGAIN = 0.02


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A slowdown with its uncertainty, all as log ratios: 0 is equally fast, more is slower.

    Attributes:
        middle: The pseudo-median.
        low: Lower end of the interval.
        high: Upper end.
        restarts: Observations.
    """

    middle: float
    low: float
    high: float
    restarts: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the data say about one quantity so far.

    Attributes:
        outcome: ``inconclusive`` when neither answer is safe.
        estimate: Of candidate against base.
        noise: The noise floor, a log ratio: what this machine shows when nothing changed.
        limit: What a slowdown has to exceed, a log ratio: the tolerance or the noise floor.
        more_restarts: How many restarts more would probably settle it; 0 when it is settled.
    """

    outcome: Outcome
    estimate: Estimate
    noise: float
    limit: float
    more_restarts: int


def estimate(log_ratios: Sequence[float], alpha: float = ALPHA_PER_LOOK) -> Estimate:
    """Pseudo-median and confidence interval of log ratios.

    Args:
        log_ratios: One a restart.
        alpha: Error probability of each end of the interval.

    Returns:
        The interval is infinite where there are too few restarts for ``alpha``.

    Raises:
        ValueError: There is no log ratio.
    """
    if not log_ratios:
        raise ValueError("an estimate needs at least one restart")
    averages = sorted((one + other) / 2 for one, other in combinations_with_replacement(log_ratios, 2))
    out = _critical(len(log_ratios), alpha)
    low, high = (-math.inf, math.inf) if out < 0 else (averages[out], averages[-1 - out])
    return Estimate(middle=median(averages), low=low, high=high, restarts=len(log_ratios))


def decide(
    log_ratios: Sequence[float],
    twin_log_ratios: Sequence[float],
    tolerance: float,
    alpha: float = ALPHA_PER_LOOK,
) -> Decision:
    """Weigh a slowdown against a tolerance and against the noise floor.

    A regression is significant *and* larger than both. It passes when a slowdown of the tolerance can be
    ruled out. Everything else is inconclusive: too noisy, or too close to the tolerance to tell.

    Args:
        log_ratios: Candidate against base, one a restart.
        twin_log_ratios: The base's twin against the base, of the same restarts.
        tolerance: The slowdown to accept, a share: 0.05 is 5 %.
        alpha: Error probability of this look, on each side.

    Raises:
        ValueError: There is no restart.
    """
    found, twin = estimate(log_ratios, alpha), estimate(twin_log_ratios, alpha)
    noise = abs(twin.middle) + _spread(twin_log_ratios)
    accepted = math.log1p(tolerance)
    limit = max(accepted, noise)
    outcome: Outcome = "inconclusive"
    if found.low > 0 and found.middle > limit:
        outcome = "regression"
    elif found.high < accepted:
        outcome = "pass"
    more = 0 if outcome != "inconclusive" else _more(found, log_ratios, accepted)
    return Decision(outcome=outcome, estimate=found, noise=noise, limit=limit, more_restarts=more)


def upper_bound(times: Sequence[float], share: float = 0.9, alpha: float = 0.01) -> float | None:
    """What a percentile is at most, sure to ``1 - alpha``, however few calls there were.

    The rank is such that so many calls as that lie below it would be rarer than ``alpha`` if the percentile
    were any higher. It counts calls as independent, which those of one process are not quite.

    Args:
        times: Of calls.
        share: Which percentile.
        alpha: Error probability.

    Returns:
        None with too few calls to say, 44 of the defaults.

    Source:
        MLPerf Inference rules, early stopping: the confidence of a percentile from a limited number of
        queries, by the binomial distribution.
    """
    count = len(times)
    above = 0.0  # probability that at most so many calls are above the percentile
    for left_out in range(count):
        ways = math.lgamma(count + 1) - math.lgamma(left_out + 1) - math.lgamma(count - left_out + 1)
        chance = ways + left_out * math.log1p(-share) + (count - left_out) * math.log(share)
        above += math.exp(chance)
        if above > alpha:
            return None if left_out == 0 else sorted(times)[count - left_out]
    return None


def _spread(log_ratios: Sequence[float]) -> float:
    """Two standard errors of the pseudo-median, by a robust standard deviation."""
    middle = median(log_ratios)
    deviation = 1.4826 * median(abs(value - middle) for value in log_ratios)
    return 2 * deviation / math.sqrt(len(log_ratios))


def _more(found: Estimate, log_ratios: Sequence[float], accepted: float) -> int:
    """Restarts until the interval is narrow enough for the distance that has to be seen."""
    distance = max(abs(accepted - found.middle), accepted / 4, 1e-3)
    half = (found.high - found.low) / 2
    if math.isinf(half):
        return LOOKS[0] - len(log_ratios) if len(log_ratios) < LOOKS[0] else LOOKS[0]
    needed = math.ceil(len(log_ratios) * max(1.0, half / distance) ** 2)
    return max(1, needed - len(log_ratios))


@cache
def _critical(count: int, alpha: float) -> int:
    """How many averages to leave out at each end: the largest k with ``P(W ≤ k) ≤ alpha``; -1 for none."""
    ways = [1]  # how many sets of ranks have each sum
    for rank in range(1, count + 1):
        longer = ways + [0] * rank
        for total, number in enumerate(ways):
            longer[total + rank] += number
        ways = longer
    below, limit = 0, alpha * 2**count
    for total, number in enumerate(ways):
        below += number
        if below > limit:
            return total - 1
    return len(ways) - 1
