"""Latency: a process for every variant, one measuring at a time, in interleaved blocks in random order.

Absolute times mean nothing elsewhere and drift on this host too (clock, neighbours). What holds is the ratio
of variants measured in the same minutes, so every round times every case once, in a new order.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.kinds.kind import kind_of
from edgelr.progress import Progress
from edgelr.runtime.shapes import fixed_sizes
from edgelr.timing.lengths import shape_text
from edgelr.timing.process import PATIENCE_SECONDS, Worker, ask, running_worker
from edgelr.verdict import LatencyRow

ROUNDS = 10
LEAST_ROUNDS = 3
WARM_SHARE = 0.25  # of a case's time, at most, for its warm-up; on top of the budget

Case = tuple[str, int]
"""A variant and a length, in tokens or seconds."""


@dataclass(frozen=True, kw_only=True)
class _Measured:
    workers: dict[str, Worker]
    load_ms: dict[str, float] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)
    inputs: dict[Case, dict[str, Any]] = field(default_factory=dict)
    times_ms: dict[Case, list[float]] = field(default_factory=dict)
    noted: dict[Case, dict[str, list[float]]] = field(default_factory=dict)
    unsettled: list[Case] = field(default_factory=list)


def measure_latency(
    packages: Mapping[str, Package],
    device: Device,
    progress: Progress,
    *,
    lengths: Sequence[int],
    seconds: float,
    seed: int = 0,
) -> tuple[tuple[LatencyRow, ...], tuple[str, ...]]:
    """Time every variant at every length on a device, one text or sound a call.

    Of a translation package, a call is a greedy translation into as many tokens as the source has; of a
    language model, reading a prompt and writing as many tokens; of a speech package, a transcript of as many
    tokens as people say in that time.

    Args:
        packages: By variant.
        device: Where to run; its evidence has to be ``run``.
        progress: Where to show how far it is.
        lengths: In tokens, of speech in seconds.
        seconds: Measuring time, shared equally by variants and lengths; warm-up takes up to a quarter more.
        seed: Of the order within the rounds.

    Returns:
        One row a variant and length, and what a reader should know. Percentiles are over the calls of all
        rounds; peak memory is that of the variant's process, interpreter and ONNX Runtime included.

    Raises:
        UnsupportedModelError: A worker died or hangs; the variant is named.
        EdgelrError: A package cannot be opened on the device.
    """
    cases = [(variant, length) for variant in packages for length in lengths]
    share = seconds / len(cases)
    with ExitStack() as stack:
        measured = _Measured(
            workers={
                variant: stack.enter_context(running_worker(f"{variant} on {device.name}"))
                for variant in packages
            }
        )
        with progress.bar(f"latency on {device.name}", (ROUNDS + 1) * len(cases)) as advance:
            _open(measured, packages, device)
            for case in cases:
                _warm(measured, packages[case[0]], case, share)
                advance()
            order = random.Random(seed)
            for done in range(ROUNDS):
                for case in order.sample(cases, len(cases)):
                    _time(measured, case, share / ROUNDS)
                    advance()
                if done + 1 >= LEAST_ROUNDS and _spent_seconds(measured) >= seconds:
                    break
        units = {variant: kind_of(package).UNIT for variant, package in packages.items()}
        rows = tuple(_row(measured, case, device, units[case[0]]) for case in cases)
    return rows, _notes(measured, device, units)


def _open(measured: _Measured, packages: Mapping[str, Package], device: Device) -> None:
    for variant, package in packages.items():
        request = {
            "do": "open",
            "device": asdict(device),
            **kind_of(package).timed(package, device),
        }
        if device.shapes == "fixed":
            request["sizes"] = fixed_sizes(package)
        reply = ask(measured.workers[variant], request, seconds=PATIENCE_SECONDS)
        measured.load_ms[variant] = reply["load_ms"]
        measured.threads[variant] = reply["threads"]


def _warm(measured: _Measured, package: Package, case: Case, share: float) -> None:
    variant, length = case
    measured.inputs[case] = kind_of(package).timed_inputs(package, length)
    measured.times_ms[case] = []
    budget = WARM_SHARE * share
    request = {"do": "warm", "inputs": measured.inputs[case], "seconds": budget}
    if not ask(measured.workers[variant], request, seconds=PATIENCE_SECONDS + budget)["settled"]:
        measured.unsettled.append(case)


def _time(measured: _Measured, case: Case, seconds: float) -> None:
    request = {"do": "time", "inputs": measured.inputs[case], "seconds": seconds}
    reply = ask(measured.workers[case[0]], request, seconds=PATIENCE_SECONDS + seconds)
    measured.times_ms[case] += reply["times_ms"]
    noted = measured.noted.setdefault(case, {})
    for name, values in reply["noted"].items():
        noted.setdefault(name, []).extend(values)


def _spent_seconds(measured: _Measured) -> float:
    return sum(map(sum, measured.times_ms.values())) / 1e3


def _row(measured: _Measured, case: Case, device: Device, unit: str) -> LatencyRow:
    import numpy as np

    variant, length = case
    times = measured.times_ms[case]
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    memory = ask(measured.workers[variant], {"do": "memory"}, seconds=PATIENCE_SECONDS)
    return LatencyRow(
        variant=variant,
        device=device.name,
        evidence=device.evidence,
        shape=shape_text(length, unit),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        runs=len(times),
        peak_bytes=memory["peak_bytes"],
        threads=measured.threads[variant],
        **_besides(measured.noted[case], case[1], p50),
    )


def _besides(noted: Mapping[str, Sequence[float]], length: int, p50: float) -> dict[str, float]:
    """What counts besides: of translations tokens, of transcripts the audio's own time and the parts."""
    medians = {name: statistics.median(values) for name, values in noted.items()}
    if "first_ms" in medians:
        return {"tokens_per_s": length / p50 * 1e3, "first_token_ms": medians["first_ms"]}
    return {"rtf": p50 / 1e3 / length, **medians} if medians else {}


def _notes(measured: _Measured, device: Device, units: Mapping[str, str]) -> tuple[str, ...]:
    loads = ", ".join(f"{variant} {load_ms:.0f} ms" for variant, load_ms in measured.load_ms.items())
    notes = [f"loading the model: {loads} ({device.name}, once)"]
    if measured.unsettled:
        cases = ", ".join(
            f"{variant} at {shape_text(length, units[variant])}" for variant, length in measured.unsettled
        )
        notes.append(f"times had not settled after warm-up: {cases} ({device.name}); raise validate.seconds")
    return tuple(notes)
