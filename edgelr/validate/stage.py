"""Stage validate: Packages + Device profiles + gates -> Verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from edgelr.artifact_files import write_json
from edgelr.artifacts import AccuracyRow, LatencyRow, Package, PlacementRow, Variant, Verdict
from edgelr.device.host import threads_note
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import UsageError
from edgelr.kinds.kind import kind_of
from edgelr.progress import Progress
from edgelr.recipe.schema import Validation
from edgelr.runtime.examples import EXAMPLES
from edgelr.runtime.package import model_path, precisions, session_entries
from edgelr.validate.accuracy import (
    accuracy_rows,
    difference_notes,
    reference_scores,
    runs_to_score,
    score_variant,
)
from edgelr.validate.gates import CANDIDATE, Measurements, check_gates, evaluate_gates
from edgelr.validate.latency import measure_latency
from edgelr.validate.placement import RECORD, placement_rows
from edgelr.writing import writing

VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True, kw_only=True)
class _Found:
    accuracy: list[AccuracyRow] = field(default_factory=list)
    latency: list[LatencyRow] = field(default_factory=list)
    placement: list[PlacementRow] = field(default_factory=list)
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
    lengths, notes = _usable_lengths(ordered[CANDIDATE], settings)
    found = _Found(notes=notes)
    for device in devices:
        _measure(_accepted(ordered, device, found), device, lengths, settings.seconds, found, progress)
    if found.accuracy:
        found.notes.extend(kind_of(ordered[CANDIDATE]).notes())
    sizes = {variant: package.cost.bytes for variant, package in ordered.items()}
    measured = Measurements(
        accuracy=tuple(found.accuracy),
        latency=tuple(found.latency),
        sizes=sizes,
        reference=reference_scores(ordered[CANDIDATE]),
    )
    gates, unmet = evaluate_gates(settings.gates, measured)
    verdict = Verdict(
        folder=folder,
        passed=all(row.passed for row in gates),
        accuracy=measured.accuracy,
        latency=measured.latency,
        placement=tuple(found.placement),
        gates=gates,
        sizes=sizes,
        notes=(*unmet, *found.notes),
    )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "verdict.json", verdict)
    return verdict


def _measure(
    packages: Mapping[str, Package],
    device: Device,
    lengths: Sequence[int],
    seconds: float,
    found: _Found,
    progress: Progress,
) -> None:
    if device.evidence == "static":
        found.notes.append(f"{device.name} has static evidence: nothing was run, only sizes were checked")
        return
    _run(packages, device, found, progress)
    if device.evidence == "emulated":
        found.notes.append(f"{device.name} is emulated: its results are right, times would mean nothing")
        return
    rows, notes = measure_latency(packages, device, progress, lengths=lengths, seconds=seconds)
    found.latency.extend(rows)
    found.notes.extend(notes)
    note = threads_note(device)
    if note is not None:
        found.notes.append(note)


def _run(packages: Mapping[str, Package], device: Device, found: _Found, progress: Progress) -> None:
    """Accuracy, parity and placement: the sessions of one variant after another, here in this process."""
    scores = {}
    total = sum(runs_to_score(package) for package in packages.values())
    with progress.bar(f"accuracy on {device.name}", total) as advance:
        for variant, package in packages.items():
            entries = {**session_entries(package, device.name), **RECORD}
            sessions = {
                role: open_session(model_path(package, role), device, entries=entries)
                for role in package.graphs
            }
            found.placement.extend(placement_rows(*sessions.values(), variant=variant, device=device.name))
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


def _usable_lengths(package: Package, settings: Validation) -> tuple[list[int], list[str]]:
    """Lengths that the package takes, and a note on those it does not."""
    match kind_of(package).UNIT:
        case "s":
            return sorted(set(settings.audio_s)), []  # longer sounds than a window are several
        case "users":
            return [1], []  # an app asks for one
    tokens = settings.tokens
    limit = package.settings.get("max_tokens")
    fitting = [length for length in sorted(set(tokens)) if not isinstance(limit, int) or length <= limit]
    if not fitting:
        raise UsageError(
            f"validate.tokens: {', '.join(map(str, tokens))} all exceed the package's {limit} tokens",
            f"add a length of at most {limit}",
        )
    left_out = [str(length) for length in tokens if length not in fitting]
    note = f"not timed: {', '.join(left_out)} tokens; the package cuts at {limit}"
    return fitting, [note] if left_out else []


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
