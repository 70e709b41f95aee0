"""The latency check: restarts until the answer is safe or the time is over, and what else changed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgelr.compare.protocol import QUANTITIES, Restart, measure_restart, profile_operators
from edgelr.compare.sides import Side
from edgelr.compare.statistics import LOOKS, Decision, Outcome, decide
from edgelr.device.schema import Device
from edgelr.progress import Progress

_NOTICED = 0.01  # of the base's time: what an operator has to grow by to be named
DECIDING = "p50"  # what the tolerance is about, and what ends the measuring


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity of the comparison; ratios are of candidate to base, 1.05 is 5 % more.

    Attributes:
        quantity: ``p50``, ``p90``, ``load``, ``memory`` or ``bytes``.
        ratio: The estimate.
        low: Lower end of its interval; None where it is exact or there are too few restarts.
        high: Upper end.
        noise: The noise floor, a share.
        limit: What it must not exceed, a share; None where no limit was asked for.
        outcome: Against the limit; None without one.
    """

    quantity: str
    ratio: float
    low: float | None
    high: float | None
    noise: float
    limit: float | None
    outcome: Outcome | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found.

    Attributes:
        outcome: ``regression`` if any limit is exceeded, else ``inconclusive`` if any is not sure, else
            ``pass``.
        rows: What was compared.
        restarts: That the answer is from: those that confirm a regression included, and alone where they
            do not.
        confirmed: Whether a regression was seen again in fresh restarts.
        seconds: That it took.
        more_seconds: What would probably settle an inconclusive one, on top.
        p50_ms: Median over the restarts of base and candidate: of this machine, today.
        grown: After a regression, the kinds of operators that take longer: name, milliseconds a call of base
            and of candidate, the most grown first.
        notes: What a reader should know.
    """

    outcome: Outcome
    rows: tuple[Row, ...]
    restarts: int
    confirmed: bool
    seconds: float
    more_seconds: float
    p50_ms: tuple[float, float]
    grown: tuple[tuple[str, float, float], ...]
    notes: tuple[str, ...]


def check_latency(  # noqa: PLR0913 - what is compared, where, and how strictly
    base: Side,
    candidate: Side,
    device: Device,
    inputs: Mapping[str, Any],
    progress: Progress,
    *,
    limits: Mapping[str, float],
    seconds: float,
    seed: int = 0,
) -> Comparison:
    """Compare two sides.

    Args:
        base: What was there before.
        candidate: What is to replace it.
        device: Where both run.
        inputs: Of one call, see ``sides.common_inputs``.
        progress: Where to show how far it is.
        limits: Quantity -> the share it may grow by; ``p50`` must be among them.
        seconds: Time for the answer; to confirm a regression takes up to half as much again.
        seed: Of the order of the blocks.

    Raises:
        EdgelrError: A side cannot be opened or run; it is named.
    """
    start = time.monotonic()
    tolerance = limits[DECIDING]
    first = _until_settled(base, candidate, device, inputs, progress, tolerance, seconds, seed)
    restarts, measured, confirmed = first, len(first), False
    if _decision(first, DECIDING, tolerance).outcome == "regression":
        progress.note("slower: measuring again, to be sure")
        again = _until_settled(
            base, candidate, device, inputs, progress, tolerance, seconds / 2, seed + len(first)
        )
        confirmed = _decision(again, DECIDING, tolerance).outcome == "regression"
        restarts, measured = ([*first, *again] if confirmed else again), len(first) + len(again)
    rows = _rows(restarts, base, candidate, limits)
    slower = any(row.outcome == "regression" for row in rows[:2])
    grown = grown_operators(base, candidate, device, inputs) if slower else ()
    spent = time.monotonic() - start
    more = _decision(restarts, DECIDING, tolerance).more_restarts
    middle = len(restarts) // 2
    p50_ms = [sorted(each.p50_ms[side] for each in restarts)[middle] for side in (0, 1)]
    return Comparison(
        outcome=_overall(rows),
        rows=rows,
        restarts=len(restarts),
        confirmed=confirmed,
        seconds=spent,
        more_seconds=more * spent / measured,
        p50_ms=(p50_ms[0], p50_ms[1]),
        grown=grown,
        notes=_notes(base, candidate, restarts),
    )


def grown_operators(
    base: Side, candidate: Side, device: Device, inputs: Mapping[str, Any]
) -> tuple[tuple[str, float, float], ...]:
    """Which kinds of operators take longer in the candidate, by ONNX Runtime's profiles of both.

    Args:
        base: One side.
        candidate: The other.
        device: Where both run.
        inputs: Of one call.

    Returns:
        Name, milliseconds a call of base and of candidate; those that grew by a hundredth of the whole, the
        most grown first.
    """
    before, after = (profile_operators(side, device, inputs) for side in (base, candidate))
    least = _NOTICED * sum(before.values())
    grown = [(name, before.get(name, 0.0), after[name]) for name in after]
    worse = [each for each in grown if each[2] - each[1] > least]
    return tuple(sorted(worse, key=lambda each: each[1] - each[2]))


def _until_settled(  # noqa: PLR0913, PLR0917 - as of check_latency
    base: Side,
    candidate: Side,
    device: Device,
    inputs: Mapping[str, Any],
    progress: Progress,
    tolerance: float,
    seconds: float,
    seed: int,
) -> list[Restart]:
    """Restarts until a look settles it, or there is no time for the next one."""
    start = time.monotonic()
    restarts: list[Restart] = []
    with progress.bar(f"comparing on {device.name}", LOOKS[-1]) as advance:
        while len(restarts) < LOOKS[-1]:
            restarts.append(measure_restart(base, candidate, device, inputs, seed=seed + len(restarts)))
            decision = _decision(restarts, DECIDING, tolerance)
            advance(note=f"×{math.exp(decision.estimate.middle):.3f}")
            if len(restarts) in LOOKS and decision.outcome != "inconclusive":
                break
            spent = time.monotonic() - start
            if spent + spent / len(restarts) > seconds:
                break
    return restarts


def _decision(restarts: Sequence[Restart], quantity: str, tolerance: float) -> Decision:
    return decide(
        [each.candidate[quantity] for each in restarts], [each.twin[quantity] for each in restarts], tolerance
    )


def _rows(
    restarts: Sequence[Restart], base: Side, candidate: Side, limits: Mapping[str, float]
) -> tuple[Row, ...]:
    rows = []
    for quantity in QUANTITIES:
        limit = limits.get(quantity)
        found = _decision(restarts, quantity, 0.0 if limit is None else limit)
        ends = (found.estimate.low, found.estimate.high)
        low, high = (None if math.isinf(end) else math.exp(end) for end in ends)
        rows.append(
            Row(
                quantity=quantity,
                ratio=math.exp(found.estimate.middle),
                low=low,
                high=high,
                noise=math.expm1(found.noise),
                limit=limit,
                outcome=None if limit is None else found.outcome,
            )
        )
    grown = candidate.bytes / base.bytes
    limit = limits.get("bytes")
    outcome: Outcome | None = None if limit is None else "regression" if grown > 1 + limit else "pass"
    size = Row(quantity="bytes", ratio=grown, low=None, high=None, noise=0.0, limit=limit, outcome=outcome)
    return (*rows, size)


def _overall(rows: Sequence[Row]) -> Outcome:
    outcomes = {row.outcome for row in rows}
    if "regression" in outcomes:
        return "regression"
    return "inconclusive" if "inconclusive" in outcomes else "pass"


def _notes(base: Side, candidate: Side, restarts: Sequence[Restart]) -> tuple[str, ...]:
    notes = []
    if base.model.samefile(candidate.model):
        notes.append("base and candidate are the same file: what differs is this machine's noise")
    if unsettled := sum(not each.settled for each in restarts):
        notes.append(f"times had not settled after warm-up in {unsettled} of {len(restarts)} restarts")
    return tuple(notes)
