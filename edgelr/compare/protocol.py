"""How two sides are timed: restart after restart, each with fresh processes, timed in short blocks in turn.

A restart has a process for the base, one for the candidate and one for the base again, its twin. Blocks come
in a random order and then in the reverse of it (ABC CBA), so that a drift within a restart falls on all.
Warm-up is over when it has settled (``timing/worker.py``); the garbage collector is off; nothing spins.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from edgelr.compare.sides import Side
from edgelr.device.schema import Device
from edgelr.timing.process import PATIENCE_SECONDS, Worker, ask, running_worker

BLOCKS = 3  # there and back again: each side is timed twice as often in a restart
BLOCK_SECONDS = 0.1
WARM_SECONDS = 0.5  # at most
PROFILE_SECONDS = 1.0
_NO_SPINNING = {"session.intra_op.allow_spinning": "0"}
QUANTITIES = ("p50", "p90", "load", "memory")


@dataclass(frozen=True, kw_only=True)
class Restart:
    """What one restart measured: quantity -> log ratio to the base.

    Attributes:
        candidate: Of the candidate.
        twin: Of the base's twin.
        p50_ms: Median time of base and candidate.
        settled: Whether every warm-up settled.
    """

    candidate: dict[str, float]
    twin: dict[str, float]
    p50_ms: tuple[float, float]
    settled: bool


def measure_restart(
    base: Side, candidate: Side, device: Device, inputs: Mapping[str, Any], *, seed: int
) -> Restart:
    """Start three processes, time them in turn, end them.

    Args:
        base: One side.
        candidate: The other.
        device: Where both run.
        inputs: Of one call.
        seed: Of the order.

    Raises:
        UnsupportedModelError: A process died or hangs; its side is named.
        EdgelrError: A graph cannot be opened or run on the device; its side is named.
    """
    order = random.Random(seed)
    sides = {"base": base, "candidate": candidate, "twin": base}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(running_worker(f"{side.name} ({side.path}) on {device.name}"))
            for name, side in sides.items()
        }
        names = order.sample(list(workers), len(workers))
        load_ms = {name: _open(workers[name], sides[name], device) for name in names}
        settled = [_warm(workers[name], inputs) for name in names]
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(BLOCKS):
            there = order.sample(names, len(names))
            for name in [*there, *reversed(there)]:
                times[name] += _time(workers[name], inputs)
        peak = {name: _peak_bytes(worker) for name, worker in workers.items()}
    found = {name: _quantities(times[name], load_ms[name], peak[name]) for name in workers}
    return Restart(
        candidate=_log_ratios(found["candidate"], found["base"]),
        twin=_log_ratios(found["twin"], found["base"]),
        p50_ms=(found["base"]["p50"], found["candidate"]["p50"]),
        settled=all(settled),
    )


def profile_operators(side: Side, device: Device, inputs: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds a call that each kind of operator of a side takes.

    Args:
        side: Base or candidate.
        device: Where it runs.
        inputs: Of one call.

    Raises:
        EdgelrError: The graph cannot be opened or run on the device.
    """
    with running_worker(f"{side.name} ({side.path}) on {device.name}") as worker:
        _open(worker, side, device, profile=True)
        request = {"do": "profile", "inputs": dict(inputs), "seconds": PROFILE_SECONDS}
        found: dict[str, float] = ask(worker, request, seconds=PATIENCE_SECONDS)["ms"]
    return found


def _open(worker: Worker, side: Side, device: Device, *, profile: bool = False) -> float:
    request = {
        "do": "open",
        "model": str(side.model),
        "device": device.model_dump(mode="json"),
        "entries": {**side.entries(device.name), **_NO_SPINNING},
        "profile": profile,
    }
    return float(ask(worker, request, seconds=PATIENCE_SECONDS)["load_ms"])


def _warm(worker: Worker, inputs: Mapping[str, Any]) -> bool:
    request = {"do": "warm", "inputs": dict(inputs), "seconds": WARM_SECONDS}
    return bool(ask(worker, request, seconds=PATIENCE_SECONDS)["settled"])


def _time(worker: Worker, inputs: Mapping[str, Any]) -> list[float]:
    request = {"do": "time", "inputs": dict(inputs), "seconds": BLOCK_SECONDS}
    times: list[float] = ask(worker, request, seconds=PATIENCE_SECONDS)["times_ms"]
    return times


def _peak_bytes(worker: Worker) -> int:
    return int(ask(worker, {"do": "memory"}, seconds=PATIENCE_SECONDS)["peak_bytes"])


def _quantities(times_ms: list[float], load_ms: float, peak_bytes: int) -> dict[str, float]:
    ordered = sorted(times_ms)
    p90 = ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)]
    # A system that does not say how much memory was used says nothing of a difference either.
    return {"p50": statistics.median(ordered), "p90": p90, "load": load_ms, "memory": float(peak_bytes or 1)}


def _log_ratios(one: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    return {name: math.log(one[name] / base[name]) for name in QUANTITIES}
