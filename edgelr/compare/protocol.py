"""How two sides are timed: restart after restart, each with fresh processes, timed in short blocks in turn.

A restart has a process for the base, one for the candidate and one for the base again, its twin, all on the
same cores. Blocks come in a random order and then in the reverse of it (ABC CBA), so that a drift within a
restart falls on all. Warm-up is over when it has settled (``timing/worker.py``); the garbage collector is
off; nothing spins.

The base and its twin are one file, so the candidate is compared with both. Medians are compared block by
block: those of one turn are half a second apart, and what slows a machine down for longer falls on all three.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from edgelr.compare.sides import Side
from edgelr.device.host import host_state
from edgelr.device.schema import Device
from edgelr.errors import ExportError, UnsupportedModelError
from edgelr.timing.process import LostProcessError, Worker, ask, running_worker
from edgelr.validate.placement import RECORD

BLOCKS = 3  # there and back again: each side is timed twice as often in a restart
BLOCK_SECONDS = 0.1
WARM_SECONDS = 0.5  # at most
PROFILE_SECONDS = 1.0
SIDES = ("base", "candidate", "twin")

Blocks = tuple[tuple[float, ...], ...]
"""Milliseconds of each call of each block, in their order."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is timed, and where.

    Attributes:
        base: What was there before.
        candidate: What is to replace it.
        device: Where both run.
        inputs: Of one call, see ``sides.common_inputs``.
        cpus: That the processes stay on, where that is allowed; none: on any.
        patience_s: Longest time to wait for an answer of a process.
    """

    base: Side
    candidate: Side
    device: Device
    inputs: Mapping[str, Any]
    cpus: tuple[int, ...]
    patience_s: float


@dataclass(frozen=True, kw_only=True)
class Restart:
    """What one restart measured.

    Attributes:
        candidate: Quantity -> log ratio of the candidate to the geometric mean of base and twin.
        twin: Quantity -> log ratio of the twin to the base.
        times_ms: Side -> times of its calls, block by block.
        settled: Whether every warm-up settled.
        pinned: Whether all processes stayed on the cores that were chosen.
        host: What the host says of itself at the end: clock, temperature, load.
    """

    candidate: dict[str, float]
    twin: dict[str, float]
    times_ms: dict[str, Blocks]
    settled: bool
    pinned: bool
    host: dict[str, float | str]


def measure_restart(setup: Setup, *, seed: int) -> Restart:
    """Start three processes, time them in turn, end them.

    Args:
        setup: What is timed.
        seed: Of the order.

    Raises:
        LostProcessError: A process ended without a word, or the clock went back; its side is named.
        ExportError: A side fails on its inputs, or hangs.
        EdgelrError: A side cannot be opened on the device; it is named.
    """
    order = random.Random(seed)
    sides = {"base": setup.base, "candidate": setup.candidate, "twin": setup.base}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(_started(setup, side)) for name, side in sides.items()}
        names = order.sample(SIDES, len(SIDES))
        pinned = [_get_ready(setup, workers[name]) for name in names]
        load_ms = {name: _open(setup, workers[name], sides[name]) for name in names}
        first_ms = {name: _first(setup, workers[name]) for name in names}
        settled = [_warm(setup, workers[name]) for name in names]
        blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for _ in range(BLOCKS):
            there = order.sample(names, len(names))
            for name in [*there, *reversed(there)]:
                blocks[name].append(_time(setup, workers[name]))
        peak = {name: _peak_bytes(setup, worker) for name, worker in workers.items()}
    found = {
        name: {
            **_time_quantities(blocks[name]),
            "first_call": first_ms[name],
            "load": load_ms[name],
            # A system that does not say how much memory was used says nothing of a difference either.
            "memory": float(peak[name] or 1),
        }
        for name in workers
    }
    times_ms = {name: tuple(tuple(block["times_ms"]) for block in blocks[name]) for name in workers}
    for name, values in found.items():
        shortest = min(*values.values(), *(min(block) for block in times_ms[name]))
        if shortest <= 0:
            raise LostProcessError(f"{workers[name].label}: a time is {shortest:g} ms: the clock jumped")
    candidate, twin = ratios_of(times_ms)
    return Restart(
        candidate={**_log_ratios(found["candidate"], found["base"], found["twin"]), "p50": candidate},
        twin={**_log_ratios(found["twin"], found["base"]), "p50": twin},
        times_ms=times_ms,
        settled=all(settled),
        pinned=all(pinned),
        host=host_state(),
    )


def ratios_of(times_ms: Mapping[str, Sequence[Sequence[float]]]) -> tuple[float, float]:
    """Log ratios of a restart's medians: of the candidate, and of the twin, see ``Restart``.

    Args:
        times_ms: Side -> times by block; the first blocks of all sides are of one turn, and so on.
    """
    base, candidate, twin = (
        [math.log(statistics.median(block)) for block in times_ms[side]] for side in SIDES
    )
    slower = [c - (b + t) / 2 for b, c, t in zip(base, candidate, twin, strict=True)]
    alike = [t - b for b, t in zip(base, twin, strict=True)]
    return statistics.median(slower), statistics.median(alike)


def placement(setup: Setup, side: Side) -> dict[str, str]:
    """Which provider takes each node of a side; runs it once, so that a side that cannot run is found here.

    Args:
        setup: What is timed.
        side: One of its sides.

    Raises:
        EdgelrError: As ``measure_restart``.
    """
    with _started(setup, side) as worker:
        try:
            _get_ready(setup, worker)
            _open(setup, worker, side, entries=RECORD)
            _first(setup, worker)
            nodes: dict[str, str] = _ask(setup, worker, {"do": "placement"})["nodes"]
        except LostProcessError as error:  # in its very first call: no bad luck
            raise ExportError(error.found, error.hint) from error
    return nodes


def profile_operators(setup: Setup, side: Side) -> dict[str, float]:
    """Milliseconds a call that each kind of operator of a side takes.

    Args:
        setup: What is timed.
        side: One of its sides.

    Raises:
        EdgelrError: As ``measure_restart``.
    """
    with _started(setup, side) as worker:
        _get_ready(setup, worker)
        _open(setup, worker, side, profile=True)
        found: dict[str, float] = _run(setup, worker, "profile", PROFILE_SECONDS)["ms"]
    return found


@contextmanager
def _started(setup: Setup, side: Side) -> Iterator[Worker]:
    with running_worker(f"{side.name} ({side.path}) on {setup.device.name}") as worker:
        yield worker


def _ask(setup: Setup, worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    return ask(worker, request, seconds=setup.patience_s)


def _get_ready(setup: Setup, worker: Worker) -> bool:
    return bool(_ask(setup, worker, {"do": "ready", "cpus": list(setup.cpus)})["pinned"])


def _open(
    setup: Setup, worker: Worker, side: Side, *, entries: Mapping[str, str] = {}, profile: bool = False
) -> float:
    opening = side.opening(setup.device)
    request = {
        "do": "open",
        **opening,
        "entries": {**opening["entries"], **entries},
        "device": asdict(setup.device),
        "profile": profile,
    }
    return float(_ask(setup, worker, request)["load_ms"])


def _run(setup: Setup, worker: Worker, do: str, seconds: float = 0.0) -> dict[str, Any]:
    """Ask for something that runs the model; what fails then is the model, which did open."""
    request = {"do": do, "inputs": dict(setup.inputs), "seconds": seconds}
    try:
        return ask(worker, request, seconds=setup.patience_s + seconds)
    except LostProcessError:
        raise
    except UnsupportedModelError as error:
        raise ExportError(error.found, error.hint) from error


def _first(setup: Setup, worker: Worker) -> float:
    return float(_run(setup, worker, "first")["first_ms"])


def _warm(setup: Setup, worker: Worker) -> bool:
    return bool(_run(setup, worker, "warm", WARM_SECONDS)["settled"])


def _time(setup: Setup, worker: Worker) -> dict[str, Any]:
    return _run(setup, worker, "time", BLOCK_SECONDS)


def _peak_bytes(setup: Setup, worker: Worker) -> int:
    return int(_ask(setup, worker, {"do": "memory"})["peak_bytes"])


def _time_quantities(blocks: list[dict[str, Any]]) -> dict[str, float]:
    """A percentile of a side's calls, and the medians of the parts that calls have."""
    ordered = sorted(time for block in blocks for time in block["times_ms"])
    p90 = ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)]
    parts = {
        _part(name): statistics.median(time for block in blocks for time in block["noted"][name])
        for name in blocks[0]["noted"]
    }
    return {"p90": p90, **parts}


def _part(noted: str) -> str:
    return "first_token" if noted == "first_ms" else noted.removesuffix("_ms")


def _log_ratios(one: Mapping[str, float], *others: Mapping[str, float]) -> dict[str, float]:
    return {
        name: math.log(value) - statistics.fmean(math.log(other[name]) for other in others)
        for name, value in one.items()
    }
