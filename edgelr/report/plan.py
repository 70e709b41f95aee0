"""The plan as a table for people and as a document for programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelr.artifacts import Plan, Survey
from edgelr.progress import Progress
from edgelr.recipe.schema import Recipe
from edgelr.report.lines import curve_picture, spectra_picture
from edgelr.report.markdown import found_line
from edgelr.report.pictures import layers_picture
from edgelr.runtime.arrays import read_arrays
from edgelr.writing import atomic_write_text

_COLUMNS = ("layer", "shape", "form", "rank", "kept", "expected error", "expected change")


def print_plan(plan: Plan, survey: Survey, progress: Progress) -> None:
    """Show the layer table: site, shape, form, rank, kept share, expected error and change of the output.

    Kept share and expected change are those of all the layers that are reduced together.
    """
    rows = [
        (
            site.name,
            f"{site.out} x {site.in_}",
            site.form,
            "" if site.rank is None else str(site.rank),
            f"{site.kept_share:.0%}",
            f"{site.error_share:.2%}",
            f"{site.expected_change:.3g}",
        )
        for site in plan.sites
    ]
    progress.table(f"ranks at {plan.kept_share:.3f} of the parameters of {len(rows)} layers", _COLUMNS, rows)
    for entry in survey.skipped:
        progress.note(f"left as it is: {entry.name} ({entry.reason})")
    before, after = plan.dense, plan.candidate
    progress.note(
        f"parameters {before.parameters:,} -> {after.parameters:,}, "
        f"weights {before.bytes / 1e6:.1f} MB fp32 -> {after.bytes / 1e6:.1f} MB, "
        f"multiply-accumulates a {plan.unit} {before.macs:,} -> {after.macs:,}"
    )
    if plan.predicted_loss is None:
        progress.note("no sensitivities were measured: the change of the output is not predicted")
        return
    _print_curve(plan, progress)
    progress.note(f"predicted change of the output before tuning: {plan.predicted_loss:.4f}")
    if line := found_line(plan.found):
        progress.note(line)


def print_variants(recipe: Recipe, progress: Progress) -> None:
    """Say of every variant of a recipe what it is, and for whom."""
    own = "fp32" if recipe.quantize is None else recipe.quantize.scheme
    for name, variant in recipe.variants.items():
        scheme = "fp32" if variant.quantize is None else variant.quantize.scheme
        progress.note(f"variant {name}: {scheme}, built for devices that accept that and not {own}")


def _print_curve(plan: Plan, progress: Progress) -> None:
    shares = [f"{share:.2f}" for share, _ in plan.curve]
    changes = [f"{change:.4f}" for _, change in plan.curve]
    title = "expected change of the output, before tuning, by kept share"
    progress.table(title, ("kept", *shares), [("change", *changes)])


def write_pictures(plan: Plan, survey: Survey, folder: Path) -> list[Path]:
    """Draw the ranks of all layers, the plan's curve and the spectra.

    Args:
        plan: What is done to each layer.
        survey: Its spectra.
        folder: Where ``plan-layers.svg``, ``plan-spectra.svg`` and, where changes are predicted,
            ``plan-curve.svg`` go.

    Returns:
        The files.

    Raises:
        StorageError: ``folder`` cannot be written.
    """
    pictures = {
        "plan-layers.svg": layers_picture([asdict(site) for site in plan.sites]),
        "plan-spectra.svg": spectra_picture(_mean_spectra(survey)),
    }
    if plan.predicted_loss is not None:
        pictures["plan-curve.svg"] = curve_picture(plan.curve, plan.kept_share, plan.predicted_loss)
    for name, picture in pictures.items():
        atomic_write_text(folder / name, picture)
    return [folder / name for name in pictures]


def _mean_spectra(survey: Survey) -> dict[str, list[float]]:
    """Of layers that have the same name but for a number, and the same shape; each with unit energy."""
    kinds: dict[str, list[Any]] = {}
    arrays = read_arrays(survey.folder / "spectra.npz")
    for site in survey.sites:
        if site.energy > 0:
            last = ".".join(part for part in site.name.split(".")[-3:] if not part.isdigit())
            kinds.setdefault(f"{last} ({site.out} x {site.in_})", []).append(arrays[site.name] / site.energy)
    return {kind: (sum(spectra) / len(spectra)).tolist() for kind, spectra in kinds.items()}


def plan_document(plan: Plan, survey: Survey) -> dict[str, Any]:
    """What ``edgelr plan --json`` prints."""
    return {
        "edgelr": 1,
        "layers": [asdict(site) for site in plan.sites],
        "skipped": [asdict(entry) for entry in survey.skipped],
        "model": {"dense": asdict(plan.dense), "candidate": asdict(plan.candidate)},
        "kept_share": plan.kept_share,
        "predicted_loss": plan.predicted_loss,
        "curve": [list(point) for point in plan.curve],
        "found": plan.found,
    }
