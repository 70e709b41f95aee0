"""Stage validate: Packages + Device profiles + gates -> Verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from edgelr.artifact_files import write_json
from edgelr.artifacts import Package, Variant
from edgelr.device.host import threads_note
from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.kinds.kind import kind_of
from edgelr.placement.fallback import FallbackRow
from edgelr.placement.operators import ANALYZED
from edgelr.placement.placed import Placed
from edgelr.progress import Progress
from edgelr.recipe.schema import Validation
from edgelr.runtime.examples import EXAMPLES
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.package import precisions
from edgelr.timing.lengths import usable_lengths
from edgelr.validate.accuracy import (
    accuracy_rows,
    difference_notes,
    reference_scores,
    runs_to_score,
    score_variant,
)
from edgelr.validate.across import compare_across
from edgelr.validate.gates import CANDIDATE, Measurements, check_gates, evaluate_gates, scores
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
from edgelr.verdict import AccuracyRow, DeviceRow, LatencyRow, PlacementRow, Verdict
from edgelr.writing import writing

VARIANTS: tuple[Variant, ...] = get_args(Variant)


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
    """Measure every variant on every device, evaluate the gates; a failed one is in the verdict, not raised.

    Args:
        packages: By variant: ``candidate``, and the baselines there are.
        devices: Where to measure. A device with static evidence runs nothing, an emulated one is not timed.
        settings: Lengths, measuring time and gates.
        folder: Where ``verdict.json`` is written.
        progress: Where to show how far it is.

    Returns:
        The verdict; ``passed`` when every gate that could be evaluated is met. Gates that could not be are in
        its notes.

    Raises:
        UsageError: An unknown variant, no candidate, packages that cannot be compared, a precision that a
            device does not accept, no length that the package takes, or a gate that can never be evaluated.
        ExportError, QuantizeError: A variant gives NaN or infinity.
        EdgelrError: A package is damaged or cannot run on a device.
    """
    ordered = _check_variants(packages)
    check_gates(settings.gates, {variant: package.precision for variant, package in ordered.items()}, devices)
    lengths, notes = usable_lengths(ordered[CANDIDATE], settings)
    found = _Found(notes=notes)
    accepted = [_accepted(ordered, device, found) for device in devices]  # all of them before anything runs
    for device, taken in zip(devices, accepted, strict=True):
        _measure(taken, device, lengths, settings.seconds, found, progress)
    found.notes.extend(compare_ort_files(ordered[CANDIDATE], min(lengths)))
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


def _measure(
    packages: Mapping[str, Package],
    device: Device,
    lengths: Sequence[int],
    seconds: float,
    found: _Found,
    progress: Progress,
) -> None:
    if device.evidence == "static":
        _analyze(packages, device, found)
        found.devices.append(_row(device, found, None))
        return
    agreement = compare_across(packages[CANDIDATE], device, lengths)
    found.notes.extend([agreement] if agreement is not None else [])
    _run_there(packages, device, lengths, seconds, found, progress, compared=agreement is not None)
    found.devices.append(_row(device, found, agreement))


def _row(device: Device, found: _Found, agreement: str | None) -> DeviceRow:
    """What was done on a device, by what was found there."""
    placed = any(row.device == device.name for row in found.placement)
    return DeviceRow(
        device=device.name,
        title=device.title,
        evidence=device.evidence,
        scored=any(row.device == device.name for row in found.accuracy),
        timed=any(row.device == device.name for row in found.latency),
        placed=("rules" if device.evidence == "static" else "recorded") if placed else None,
        agreement=None if agreement is None else agreement.removeprefix(f"{device.name} "),
    )


def _run_there(
    packages: Mapping[str, Package],
    device: Device,
    lengths: Sequence[int],
    seconds: float,
    found: _Found,
    progress: Progress,
    *,
    compared: bool,
) -> None:
    """Placement, and as far as the device allows accuracy and times."""
    if not scores(device):
        _place_emulated(packages[CANDIDATE], device, found, compared=compared)
        return
    _run(packages, device, found, progress)
    if device.evidence == "emulated":
        found.notes.append(f"{device.name} is emulated: its results are right, times would mean nothing")
        return
    if not device.timed:
        found.notes.append(
            f"{device.name} is another machine: it gave these results, times would be those of the network"
        )
        return
    rows, notes = measure_latency(packages, device, progress, lengths=lengths, seconds=seconds)
    found.latency.extend(rows)
    found.notes.extend(notes)
    note = threads_note(device)
    if note is not None:
        found.notes.append(note)


def _analyze(packages: Mapping[str, Package], device: Device, found: _Found) -> None:
    """Placement by the rules of the device's provider, where there are any; nothing is run."""
    known = device.provider in ANALYZED
    done = "its graphs were analyzed" if known else f"no rules of {device.provider} are known"
    found.notes.append(f"{device.name} has static evidence: {done}, nothing was run")
    for variant, package in packages.items():
        _place(analyzed_graphs(package, device), variant, device, found)


def _place_emulated(package: Package, device: Device, found: _Found, *, compared: bool) -> None:
    """Placement of the candidate where a run takes seconds; what it gives was compared before, or not."""
    sessions = open_graphs(package, device, package.graphs, RECORD)
    _place(recorded_graphs(package, device, sessions), CANDIDATE, device, found)
    beside = beside_note(package, device)
    found.notes.extend([beside] if beside is not None else [])
    instead = "but held against the CPU" if compared else "nor compared: its graphs were opened, not run"
    found.notes.append(f"{device.name} is emulated: neither timed nor scored, {instead}")


def _place(graphs: Sequence[Sequence[Placed]], variant: str, device: Device, found: _Found) -> None:
    found.placement.extend(placement_rows(graphs, variant=variant, device=device))
    found.fallbacks.extend(fallback_rows(graphs, variant=variant, device=device.name))


def _run(packages: Mapping[str, Package], device: Device, found: _Found, progress: Progress) -> None:
    """Accuracy, parity and placement: the sessions of one variant after another, here in this process."""
    scores = {}
    total = sum(runs_to_score(package) for package in packages.values())
    with progress.bar(f"accuracy on {device.name}", total) as advance:
        for variant, package in packages.items():
            sessions = open_graphs(package, device, package.graphs, RECORD)
            _place(recorded_graphs(package, device, sessions), variant, device, found)
            difference = kind_of(package).parity(package, sessions)
            if difference is not None and package.precision == "fp32":
                found.notes.append(
                    f"{variant} differs from torch by at most {difference:.1e} ({device.name}, parity cases)"
                )
            scores[variant] = score_variant(package, sessions, packages[CANDIDATE], advance)
            found.accuracy.extend(accuracy_rows(scores[variant], variant=variant, device=device.name))
    found.notes.extend(difference_notes(scores, device=device.name))


def _check_variants(packages: Mapping[str, Package]) -> dict[str, Package]:
    """The packages in the usual order, once it is sure that they can be compared."""
    if unknown := sorted(set(packages) - set(VARIANTS)):
        raise UsageError(
            f"unknown variant {', '.join(map(repr, unknown))}", f"known are {', '.join(VARIANTS)}"
        )
    if CANDIDATE not in packages:
        raise UsageError(
            "there is no candidate to validate", "give the package to be released as 'candidate'"
        )
    candidate = packages[CANDIDATE]
    for variant, package in packages.items():
        if package.task != candidate.task:
            raise UsageError(f"{variant} is for the task {package.task}, the candidate for {candidate.task}")
        if package.files.get(EXAMPLES) != candidate.files.get(EXAMPLES):
            raise UsageError(
                f"{package.folder} ({variant}) and {candidate.folder} have different examples",
                "compare packages of the same recipe",
            )
    return {variant: packages[variant] for variant in VARIANTS if variant in packages}


def _accepted(packages: Mapping[str, Package], device: Device, found: _Found) -> dict[str, Package]:
    """The packages whose precision the device takes; the candidate has to be among them."""
    accepts = ", ".join(device.accepts)
    other = {
        variant: [each for each in precisions(package) if each not in device.accepts]
        for variant, package in packages.items()
    }
    if other[CANDIDATE]:
        raise UsageError(
            f"the candidate is {', '.join(other[CANDIDATE])}, {device.name} accepts {accepts}",
            "change quantize.scheme in the recipe, or choose another device",
        )
    refused = [variant for variant, found in other.items() if found]
    if refused:
        found.notes.append(f"not measured: {', '.join(refused)}: {device.name} accepts {accepts} only")
    return {variant: package for variant, package in packages.items() if variant not in refused}
