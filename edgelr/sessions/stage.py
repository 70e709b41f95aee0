"""Stage sessions: Packages + Devices -> Sessions, the settings of ONNX Runtime measured as best for each."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgelr.artifact_files import write_json
from edgelr.artifacts import Package
from edgelr.device.host import threads_used
from edgelr.device.schema import Device
from edgelr.kinds.kind import kind_of
from edgelr.progress import Progress
from edgelr.runtime.variants import measured_on
from edgelr.session_rows import SessionRow, Sessions
from edgelr.sessions.search import Choice, Times, choose_settings, entries_of, names_for
from edgelr.timing.lengths import shape_text
from edgelr.timing.rounds import Case, measure_rounds
from edgelr.writing import writing


def tune_sessions(
    packages: Mapping[str, Package],
    devices: Sequence[Device],
    lengths: Sequence[int],
    seconds: float,
    folder: Path,
    progress: Progress,
) -> Sessions:
    """Measure session settings of every package on every device that is measured with it and can be timed.

    Baselines too: what helps them is no merit of the candidate.

    Args:
        packages: By variant.
        devices: The profiles; those that are not timed in this process are left out.
        lengths: Of inputs, in the kind's unit.
        seconds: Measuring time a variant and device.
        folder: Where ``sessions.json`` is written.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: A session fails or hangs.
        EdgelrError: A package cannot be opened on a device.
    """
    rows = [
        row
        for device in devices
        if device.timed
        for variant, package in measured_on(packages, device).items()
        for row in _rows(variant, replace(package, session={}), device, lengths, seconds, progress)
    ]
    sessions = Sessions(folder=folder, rows=tuple(rows))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "sessions.json", sessions)
    return sessions


def _rows(
    variant: str,
    package: Package,
    device: Device,
    lengths: Sequence[int],
    seconds: float,
    progress: Progress,
) -> Iterator[SessionRow]:
    label = f"session settings of {variant}"

    def measure(choices: Sequence[Choice]) -> Times:
        return _measure(package, device, choices, lengths, seconds / 2, progress, label)

    choice, times = choose_settings(measure, names_for(threads_used(device)))
    entries = entries_of(choice)
    if entries:
        told = ", ".join(f"{name}={value}" for name, value in entries.items())
        progress.note(f"{variant} is faster on {device.name} with {told}")
    for length, default_ms, tuned_ms in zip(lengths, times[()], times[choice], strict=True):
        yield SessionRow(
            variant=variant,
            device=device.name,
            shape=shape_text(length, kind_of(package).UNIT),
            entries=entries,
            default_ms=default_ms,
            tuned_ms=tuned_ms,
        )


def _measure(
    package: Package,
    device: Device,
    choices: Sequence[Choice],
    lengths: Sequence[int],
    seconds: float,
    progress: Progress,
    label: str,
) -> Times:
    """Medians of every choice at every length, all interleaved."""
    kind = kind_of(package)
    inputs = {length: kind.timed_inputs(package, length) for length in lengths}
    cases = {
        (choice, length): Case(
            name=f"{'+'.join(choice)} {length}",
            opens=kind.timed(package, device),
            inputs=inputs[length],
            seconds=seconds / (len(choices) * len(lengths)),
            entries=entries_of(choice),
        )
        for choice in choices
        for length in lengths
    }
    times_ms = measure_rounds([*cases.values()], device, progress, label=label)
    return {
        choice: [statistics.median(times_ms[cases[choice, length].name]) for length in lengths]
        for choice in choices
    }
