"""Many sessions timed in turn, in one process: so that their times can be added and compared.

``validate`` has a process for each variant, because it also tells their memory. Here only times count, and
there are dozens of small graphs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.kinds.kind import kind_of
from edgelr.progress import Progress
from edgelr.timing.process import PATIENCE_SECONDS, Worker, ask, running_worker
from edgelr.timing.spinning import calmed

ROUNDS = 10
WARM_SHARE = 0.25  # of a case's time, at most, for its warm-up; on top of it


@dataclass(frozen=True, kw_only=True)
class Case:
    """One session with one input.

    Attributes:
        name: Of its own among all that are timed together.
        opens: What ``worker.py`` is asked to open: ``{"model": path}``, or what a kind of package says. Cases
            that open the same share the session.
        inputs: As ``worker.py`` takes them.
        seconds: Measuring time, over all rounds.
        entries: Session settings on top of the device's.
    """

    name: str
    opens: Mapping[str, Any]
    inputs: dict[str, Any]
    seconds: float
    entries: dict[str, str] = field(default_factory=dict)


def package_case(package: Package, device: Device, *, tokens: int, seconds: float, name: str) -> Case:
    """The whole model of a package, as one case.

    Args:
        package: Any package.
        device: Where it will run.
        tokens: Length of its one text.
        seconds: Measuring time.
        name: The case's name.

    Raises:
        UnsupportedModelError: The package's task is unknown.
        DamagedArtifactError: The package's session settings are malformed.
    """
    return Case(
        name=name,
        opens=kind_of(package).timed(package, device),
        inputs=kind_of(package).timed_inputs(package, tokens),
        seconds=seconds,
    )


def measure_rounds(
    cases: Sequence[Case], device: Device, progress: Progress, *, label: str, seed: int = 0
) -> dict[str, list[float]]:
    """Time every case once a round, in a new order each round: what drifts meanwhile, drifts for all.

    Args:
        cases: At least one.
        device: Where to run; its evidence has to be ``run``.
        progress: Where to show how far it is.
        label: What is timed, for errors and the progress bar.
        seed: Of the orders.

    Returns:
        Milliseconds of every call, by the case's name.

    Raises:
        UnsupportedModelError: The process died or hangs.
        EdgelrError: A graph cannot be opened or run on the device.
    """
    times_ms: dict[str, list[float]] = {case.name: [] for case in cases}
    order = random.Random(seed)
    with (
        running_worker(f"{label} on {device.name}") as worker,
        progress.bar(f"{label} on {device.name}", (ROUNDS + 1) * len(cases)) as advance,
    ):
        for opened in {_session(case): case for case in cases}.values():
            _open(worker, opened, device)
        for case in cases:
            _run(worker, "warm", case, WARM_SHARE * case.seconds)
            advance()
        for _ in range(ROUNDS):
            for case in order.sample(cases, len(cases)):
                times_ms[case.name] += _run(worker, "time", case, case.seconds / ROUNDS)["times_ms"]
                advance()
    return times_ms


def _open(worker: Worker, case: Case, device: Device) -> None:
    request = {
        **case.opens,
        "do": "open",
        "session": _session(case),
        "device": asdict(device),
        "entries": _entries(case),
    }
    ask(worker, request, seconds=PATIENCE_SECONDS)


def _run(worker: Worker, do: str, case: Case, seconds: float) -> dict[str, Any]:
    request = {"do": do, "session": _session(case), "inputs": case.inputs, "seconds": seconds}
    return ask(worker, request, seconds=PATIENCE_SECONDS + seconds)


def _entries(case: Case) -> dict[str, str]:
    # Threads of the session that ran last would burn the cores that the next one is timed on.
    return calmed({**case.opens.get("entries", {}), **case.entries})


def _session(case: Case) -> str:
    """Its session's name: what there is to open."""
    return json.dumps({**case.opens, "entries": _entries(case)}, sort_keys=True)
