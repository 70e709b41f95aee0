"""Stage validate: Packages + Device profiles + gates -> Verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgelr.artifact_files import write_json
from edgelr.artifacts import CANDIDATE, Package
from edgelr.device.host import threads_note
from edgelr.device.schema import Device
from edgelr.kinds.kind import kind_of
from edgelr.placement.fallback import FallbackRow
from edgelr.placement.operators import ANALYZED
from edgelr.placement.placed import Placed
from edgelr.progress import Progress
from edgelr.recipe.schema import Validation
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.variants import released
from edgelr.timing.lengths import usable_lengths
from edgelr.validate.accuracy import (
    accuracy_rows,
    difference_notes,
    reference_scores,
    runs_to_score,
    score_variant,
)
from edgelr.validate.across import compare_across
from edgelr.validate.gates import Measurements, check_gates, evaluate_gates, scores
from edgelr.validate.latency import measure_latency
from edgelr.validate.ort_files import compare_ort_files
from edgelr.validate.placement import (
    RECORD,
    analyzed_graphs,
    beside_note,
    fallback_rows,
    placement_rows,
    recorded_graphs,
)
from edgelr.validate.taken import Taken, check_packages, taken_by
from edgelr.verdict import AccuracyRow, DeviceRow, LatencyRow, PlacementRow, Verdict
from edgelr.writing import writing


@dataclass(frozen=True, kw_only=True)
class _Found:
    accuracy: list[AccuracyRow] = field(default_factory=list)
    latency: list[LatencyRow] = field(default_factory=list)
    placement: list[PlacementRow] = field(default_factory=list)
    fallbacks: list[FallbackRow] = field(default_factory=list)
    devices: list[DeviceRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def validate(
    packages: Mapping[str, Package],
    devices: Sequence[Device],
    settings: Validation,
    folder: Path,
    progress: Progress,
) -> Verdict:
    """Measure devices with their packages, evaluate gates; one that failed is in the verdict, not raised.

    Args:
        packages: By name: ``candidate``, the baselines there are, and the candidate's variants.
        devices: Where to measure. A device with static evidence runs nothing, an emulated one is not timed.
        settings: Lengths, measuring time and gates.
        folder: Where ``verdict.json`` is written.
        progress: Where to show how far it is.

    Returns:
        The verdict; ``passed`` when every gate that could be evaluated is met. Gates that could not be are in
        its notes.

    Raises:
        UsageError: No candidate, packages that cannot be compared, a device that accepts no package, no
            length that the package takes, or a gate that can never be evaluated.
        ExportError, QuantizeError: A variant gives NaN or infinity.
        EdgelrError: A package is damaged or cannot run on a device.
    """
    ordered = check_packages(packages)
    check_gates(settings.gates, {variant: package.precision for variant, package in ordered.items()}, devices)
    lengths, notes = usable_lengths(ordered[CANDIDATE], settings)
    found = _Found(notes=notes)
    for taken in taken_by(ordered, devices):  # what each device takes is known before anything runs
        _measure(taken, lengths, settings.seconds, found, progress)
    for package in released(ordered).values():
        found.notes.extend(compare_ort_files(package, min(lengths)))
    if found.accuracy:
        found.notes.extend(kind_of(ordered[CANDIDATE]).notes())
    sizes = {variant: package.cost.bytes for variant, package in ordered.items()}
    measured = Measurements(
        accuracy=tuple(found.accuracy),
        latency=tuple(found.latency),
        sizes=sizes,
        reference=reference_scores(ordered[CANDIDATE]),
        placement=tuple(found.placement),
    )
    gates, unmet = evaluate_gates(settings.gates, measured)
    verdict = Verdict(
        folder=folder,
        passed=all(row.passed for row in gates),
        accuracy=measured.accuracy,
        latency=measured.latency,
        placement=measured.placement,
        gates=gates,
        sizes=sizes,
        notes=(*unmet, *found.notes),
        fallbacks=tuple(found.fallbacks),
        devices=tuple(found.devices),
    )
    _write(verdict)
    return verdict


def _write(verdict: Verdict) -> None:
    with writing(verdict.folder):
        verdict.folder.mkdir(parents=True, exist_ok=True)
        write_json(verdict.folder / "verdict.json", verdict)


def _measure(taken: Taken, lengths: Sequence[int], seconds: float, found: _Found, progress: Progress) -> None:
    device, refused = taken.device, ", ".join(taken.refused)
    if refused:
        accepted = ", ".join(device.accepts)
        found.notes.append(f"not measured: {refused}: {device.name} accepts {accepted} only")
    if device.evidence == "static":
        _analyze(taken, found)
        found.devices.append(_row(taken, found, None))
        return
    agreement = compare_across(taken.packages[taken.own], device, lengths)
    found.notes.extend([agreement] if agreement is not None else [])
    _run_there(taken, lengths, seconds, found, progress, compared=agreement is not None)
    found.devices.append(_row(taken, found, agreement))


def _row(taken: Taken, found: _Found, agreement: str | None) -> DeviceRow:
    """What was done on a device, by what was found there."""
    device = taken.device
    placed = any(row.device == device.name for row in found.placement)
    return DeviceRow(
        device=device.name,
        title=device.title,
        variant=taken.own,
        evidence=device.evidence,
        scored=any(row.device == device.name for row in found.accuracy),
        timed=any(row.device == device.name for row in found.latency),
        placed=("rules" if device.evidence == "static" else "recorded") if placed else None,
        agreement=None if agreement is None else agreement.removeprefix(f"{device.name} "),
    )


def _run_there(
    taken: Taken,
    lengths: Sequence[int],
    seconds: float,
    found: _Found,
    progress: Progress,
    *,
    compared: bool,
) -> None:
    """Placement, and as far as the device allows accuracy and times."""
    device = taken.device
    if not scores(device):
        _place_emulated(taken, found, compared=compared)
        return
    _run(taken, found, progress)
    if device.evidence == "emulated":
        found.notes.append(f"{device.name} is emulated: its results are right, times would mean nothing")
        return
    if not device.timed:
        found.notes.append(
            f"{device.name} is another machine: it gave these results, times would be those of the network"
        )
        return
    rows, notes = measure_latency(taken.packages, device, progress, lengths=lengths, seconds=seconds)
    found.latency.extend(rows)
    found.notes.extend(notes)
    note = threads_note(device)
    if note is not None:
        found.notes.append(note)


def _analyze(taken: Taken, found: _Found) -> None:
    """Placement by the rules of the device's provider, where there are any; nothing is run."""
    device = taken.device
    known = device.provider in ANALYZED
    done = "its graphs were analyzed" if known else f"no rules of {device.provider} are known"
    found.notes.append(f"{device.name} has static evidence: {done}, nothing was run")
    for variant, package in taken.packages.items():
        _place(analyzed_graphs(package, device), variant, device, found)


def _place_emulated(taken: Taken, found: _Found, *, compared: bool) -> None:
    """Placement of its own package where a run takes seconds; what it gives was compared before, or not."""
    device, package = taken.device, taken.packages[taken.own]
    sessions = open_graphs(package, device, package.graphs, RECORD)
    _place(recorded_graphs(package, device, sessions), taken.own, device, found)
    beside = beside_note(package, device)
    found.notes.extend([beside] if beside is not None else [])
    instead = "but held against the CPU" if compared else "nor compared: its graphs were opened, not run"
    found.notes.append(f"{device.name} is emulated: neither timed nor scored, {instead}")


def _place(graphs: Sequence[Sequence[Placed]], variant: str, device: Device, found: _Found) -> None:
    found.placement.extend(placement_rows(graphs, variant=variant, device=device))
    found.fallbacks.extend(fallback_rows(graphs, variant=variant, device=device.name))


def _run(taken: Taken, found: _Found, progress: Progress) -> None:
    """Accuracy, parity and placement: the sessions of one package after another, here in this process."""
    scores = {}
    device, packages = taken.device, {**taken.packages, **taken.besides}
    for name in taken.besides:
        found.notes.append(f"{name} is scored here, as its own devices score nothing ({device.name})")
    total = sum(runs_to_score(package) for package in packages.values())
    with progress.bar(f"accuracy on {device.name}", total) as advance:
        for variant, package in packages.items():
            sessions = open_graphs(package, device, package.graphs, RECORD)
            if variant in taken.packages:
                _place(recorded_graphs(package, device, sessions), variant, device, found)
            difference = kind_of(package).parity(package, sessions)
            if difference is not None and package.precision == "fp32":
                found.notes.append(
                    f"{variant} differs from torch by at most {difference:.1e} ({device.name}, parity cases)"
                )
            scores[variant] = score_variant(package, sessions, packages[taken.own], advance)
            found.accuracy.extend(accuracy_rows(scores[variant], variant=variant, device=device.name))
    found.notes.extend(difference_notes(scores, device=device.name))
