"""The latency check: restarts until the answer is safe or the time is over, and what else changed."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgelr.compare.explain import grown_operators, host_range, moved_nodes, notes
from edgelr.compare.protocol import Restart, Setup, measure_restart, placement
from edgelr.compare.rows import DECIDING, Row, exact_rows, timed_quantities, timed_row, weigh
from edgelr.compare.statistics import (
    ALPHA_PER_LOOK,
    ALPHA_PER_LOOK_AGAIN,
    LOOKS,
    LOOKS_AGAIN,
    Decision,
    Outcome,
    upper_bound,
)
from edgelr.errors import ExportError
from edgelr.progress import Progress
from edgelr.timing.process import LostProcessError

AGAIN_SHARE = 0.5  # of the time, on top of it, to see a regression again
_RESERVE_SECONDS = 5.0  # of that, to profile both sides
_NEXT_SEED = 1000

Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found.

    Attributes:
        outcome: ``regression`` if any limit is exceeded, else ``inconclusive`` if any is not sure, else
            ``pass``.
        rows: What was compared.
        restarts: That were measured, those included that were to confirm a regression.
        confirmed: Whether a regression was seen again in fresh restarts.
        seconds: That it took.
        more_seconds: What would probably settle an inconclusive one, on top.
        p50_ms: Median over the restarts of base and candidate: of this machine, today.
        p90_ms: Nine calls of ten take at most so long.
        p90_bound_ms: Likewise, sure to 99 %; None with too few calls.
        grown: After a regression, the kinds of operators that take longer: name, milliseconds a call of base
            and of candidate, the most grown first.
        moved: Nodes that another provider takes: name, the base's provider, the candidate's.
        host: What the host said of itself meanwhile.
        log_ratios: Of ``p50``, one a restart of the round that its answer is from: of the candidate, and of
            the twin.
        measured: Every restart, in order.
        notes: What a reader should know.
    """

    outcome: Outcome
    rows: tuple[Row, ...]
    restarts: int
    confirmed: bool
    seconds: float
    more_seconds: float
    p50_ms: Pair
    p90_ms: Pair
    p90_bound_ms: tuple[float | None, float | None]
    grown: tuple[tuple[str, float, float], ...]
    moved: tuple[tuple[str, str, str], ...]
    host: dict[str, Any]
    log_ratios: tuple[tuple[float, ...], tuple[float, ...]]
    measured: tuple[Restart, ...]
    notes: tuple[str, ...]

    @property
    def times_ms(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of every call: of the base, and of the candidate."""
        return _times(self.measured, "base"), _times(self.measured, "candidate")


@dataclass(frozen=True, kw_only=True)
class _Round:
    """Restarts that answer together, and how often they are looked at."""

    looks: tuple[int, ...]
    alpha: float
    restarts: list[Restart] = field(default_factory=list)

    def weigh(self, quantity: str, limit: float) -> Decision:
        return weigh(self.restarts, quantity, limit, self.alpha)

    def row(self, quantity: str, limit: float | None) -> Row:
        return timed_row(quantity, self.restarts, limit, self.alpha)


@dataclass(frozen=True, kw_only=True)
class _Rounds:
    """What was measured: the first round, and the one that is to see a regression again."""

    first: _Round = field(default_factory=lambda: _Round(looks=LOOKS, alpha=ALPHA_PER_LOOK))
    again: _Round = field(default_factory=lambda: _Round(looks=LOOKS_AGAIN, alpha=ALPHA_PER_LOOK_AGAIN))
    suspects: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[Restart]:
        return [*self.first.restarts, *self.again.restarts]

    def of(self, quantity: str) -> _Round:
        """The round that answers for a quantity: of a suspect the second, not chosen for what it showed."""
        return self.again if quantity in self.suspects else self.first


def check_latency(
    setup: Setup, progress: Progress, *, limits: Mapping[str, float], seconds: float, seed: int = 0
) -> Comparison:
    """Compare two sides.

    Args:
        setup: Both sides, and where they run.
        progress: Where to show how far it is.
        limits: Quantity -> the share of the base's it may be worse by; ``p50`` must be among them.
        seconds: Time for the answer; to confirm a regression takes up to half as much again.
        seed: Of the order of the blocks.

    Raises:
        EdgelrError: A side cannot be opened or run; it is named.
    """
    start = time.monotonic()
    moved = moved_nodes(*(placement(setup, side) for side in (setup.base, setup.candidate)))
    rounds = _measure_rounds(setup, progress, limits, start, seconds, seed)
    timed = [name for name in timed_quantities(setup.base) if name in rounds.all[0].candidate]
    rows = [rounds.of(name).row(name, limits.get(name)) for name in timed]
    slower = any(row.outcome == "regression" for row in rows if row.quantity not in {"load", "memory"})
    grown = grown_operators(setup) if slower else ()
    spent = time.monotonic() - start
    times = _times(rounds.all, "base"), _times(rounds.all, "candidate")
    bounds = tuple(upper_bound(each) for each in times)
    rows = [_with_calls(row, bounds) for row in rows] + list(exact_rows(setup.base, setup.candidate, limits))
    more = max(rounds.of(name).weigh(name, limits[name]).more_restarts for name in timed if name in limits)
    deciding = rounds.of(DECIDING).restarts
    return Comparison(
        outcome=_overall(rows),
        rows=tuple(rows),
        restarts=len(rounds.all),
        confirmed=bool(_slower(rounds.again, rounds.suspects, limits)),
        seconds=spent,
        more_seconds=more * spent / len(rounds.all),
        p50_ms=(_median_of(rounds, "base"), _median_of(rounds, "candidate")),
        p90_ms=(_ninth_tenth(times[0]), _ninth_tenth(times[1])),
        p90_bound_ms=(bounds[0], bounds[1]),
        grown=grown,
        moved=moved,
        host=host_range(rounds.all),
        log_ratios=(
            tuple(each.candidate[DECIDING] for each in deciding),
            tuple(each.twin[DECIDING] for each in deciding),
        ),
        measured=tuple(rounds.all),
        notes=notes(setup, rounds.all, rounds.lost),
    )


def _measure_rounds(
    setup: Setup, progress: Progress, limits: Mapping[str, float], start: float, seconds: float, seed: int
) -> _Rounds:
    """A round for the answer, and one more where that is a regression."""
    rounds = _Rounds()
    timed = {name: limits[name] for name in timed_quantities(setup.base) if name in limits}
    _until_settled(setup, progress, rounds.first, rounds.lost, timed, start + seconds, seed)
    rounds.suspects.extend(_slower(rounds.first, timed, limits))
    if rounds.suspects:
        progress.note(f"{' and '.join(rounds.suspects)}: worse; measuring again, to be sure")
        end = max(start + (1 + AGAIN_SHARE) * seconds, time.monotonic()) - _RESERVE_SECONDS
        asked = {name: timed[name] for name in rounds.suspects}
        seed += len(rounds.first.restarts)
        _until_settled(setup, progress, rounds.again, rounds.lost, asked, end, seed)
    return rounds


def _until_settled(
    setup: Setup,
    progress: Progress,
    measured: _Round,
    lost: list[str],
    limits: Mapping[str, float],
    end: float,
    seed: int,
) -> None:
    """Add restarts to a round until a look settles every limit, or there is no time for the next one."""
    start = time.monotonic()
    restarts, looks = measured.restarts, measured.looks
    with progress.bar(f"comparing on {setup.device.name}", looks[-1]) as advance:
        while len(restarts) < looks[-1]:
            restarts.append(_restart(setup, lost, seed + len(restarts)))
            found = {name: measured.weigh(name, limit) for name, limit in limits.items()}
            advance(note=", ".join(f"{n} ×{math.exp(each.estimate.middle):.3f}" for n, each in found.items()))
            open_ones = [name for name, each in found.items() if each.outcome == "inconclusive"]
            if len(restarts) in looks and not open_ones:
                break
            now = time.monotonic()
            if now + (now - start) / len(restarts) > end:
                break


def _restart(setup: Setup, lost: list[str], seed: int) -> Restart:
    """Measure a restart; one that is lost, the only one of all, is measured again."""
    try:
        return measure_restart(setup, seed=seed)
    except LostProcessError as error:
        if lost:
            raise ExportError(error.found, "it happened twice, so it is not chance") from error
        lost.append(error.found)
    return _restart(setup, lost, seed + _NEXT_SEED)


def _slower(measured: _Round, quantities: Iterable[str], limits: Mapping[str, float]) -> list[str]:
    return [name for name in quantities if measured.weigh(name, limits[name]).outcome == "regression"]


def _with_calls(row: Row, bounds: Collection[float | None]) -> Row:
    """A p90 of too few calls is nobody's: it can be no answer."""
    if row.quantity != "p90" or row.outcome is None or None not in bounds:
        return row
    return Row(**{**vars(row), "outcome": "inconclusive"})


def _overall(rows: Collection[Row]) -> Outcome:
    outcomes = {row.outcome for row in rows}
    if "regression" in outcomes:
        return "regression"
    return "inconclusive" if "inconclusive" in outcomes else "pass"


def _median_of(rounds: _Rounds, side: str) -> float:
    return median(median(time for block in each.times_ms[side] for time in block) for each in rounds.all)


def _times(restarts: Sequence[Restart], side: str) -> tuple[float, ...]:
    return tuple(time for each in restarts for block in each.times_ms[side] for time in block)


def _ninth_tenth(times: tuple[float, ...]) -> float:
    return sorted(times)[min(len(times) - 1, math.ceil(0.9 * len(times)) - 1)]
