"""What is compared, a row each: times and memory by restarts, size and accuracy exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgelr.compare.protocol import Restart
from edgelr.compare.sides import Side
from edgelr.compare.statistics import ALPHA_PER_LOOK, Decision, Outcome, decide
from edgelr.metrics import ERRORS, METRICS
from edgelr.recipe.compare import TIMED

DECIDING = "p50"  # what the tolerance is about
SCORES = {name for names in METRICS.values() for name in names} - ERRORS  # better when higher


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity of the comparison; ratios are of candidate to base, 1.05 is 5 % more.

    Attributes:
        quantity: ``p50`` and others of a call, ``load``, ``memory``, ``bytes``, or a metric of accuracy.
        ratio: The estimate.
        low: Lower end of its interval; None where it is exact or there are too few restarts.
        high: Upper end.
        noise: The noise floor, a share; None where it is exact.
        limit: By what share of the base's it may be worse; None where no limit was asked for.
        outcome: Against the limit; None without one.
    """

    quantity: str
    ratio: float
    low: float | None
    high: float | None
    noise: float | None
    limit: float | None
    outcome: Outcome | None

    @property
    def bound(self) -> float | None:
        """The limit as a ratio: the most there may be, of an accuracy the least."""
        if self.limit is None:
            return None
        return 1 - self.limit if self.quantity in SCORES else 1 + self.limit


def timed_quantities(side: Side) -> tuple[str, ...]:
    """What restarts tell of a side."""
    return (DECIDING, *TIMED, *side.parts)


def weigh(
    restarts: Sequence[Restart], quantity: str, tolerance: float, alpha: float = ALPHA_PER_LOOK
) -> Decision:
    """Decide about one quantity.

    Args:
        restarts: At least one.
        quantity: Of ``timed_quantities``.
        tolerance: A share.
        alpha: Error probability of this look.
    """
    return decide(
        [each.candidate[quantity] for each in restarts],
        [each.twin[quantity] for each in restarts],
        tolerance,
        alpha,
    )


def timed_row(
    quantity: str, restarts: Sequence[Restart], limit: float | None, alpha: float = ALPHA_PER_LOOK
) -> Row:
    """The row of a quantity that restarts tell.

    Args:
        quantity: Of ``timed_quantities``.
        restarts: That its answer is from.
        limit: A share, or None.
        alpha: Error probability of each end of the interval.
    """
    found = weigh(restarts, quantity, 0.0 if limit is None else limit, alpha)
    low, high = (
        None if math.isinf(end) else math.exp(end) for end in (found.estimate.low, found.estimate.high)
    )
    return Row(
        quantity=quantity,
        ratio=math.exp(found.estimate.middle),
        low=low,
        high=high,
        noise=math.expm1(found.noise),
        limit=limit,
        outcome=None if limit is None else found.outcome,
    )


def exact_rows(base: Side, candidate: Side, limits: Mapping[str, float]) -> tuple[Row, ...]:
    """Bytes on disk, and the metrics that both packages were validated with.

    Args:
        base: One side.
        candidate: The other.
        limits: Quantity -> share.
    """
    values = {"bytes": (float(base.bytes), float(candidate.bytes)), **accuracy(base, candidate)}
    return tuple(_exact(name, *pair, limits.get(name)) for name, pair in values.items())


def accuracy(base: Side, candidate: Side) -> dict[str, tuple[float, float]]:
    """Metric -> base and candidate, as both packages say they were validated; no file is run for it."""
    if base.package is None or candidate.package is None:
        return {}
    one, other = base.package.accuracy, candidate.package.accuracy
    return {metric: (one[metric], other[metric]) for metric in one if metric in other}


def _exact(quantity: str, before: float, after: float, limit: float | None) -> Row:
    ratio = after / before if before else math.inf if after else 1.0
    row = Row(quantity=quantity, ratio=ratio, low=None, high=None, noise=None, limit=limit, outcome=None)
    if row.bound is None:
        return row
    worse = ratio < row.bound if quantity in SCORES else ratio > row.bound
    return Row(**{**vars(row), "outcome": "regression" if worse else "pass"})
