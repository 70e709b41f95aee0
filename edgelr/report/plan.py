"""The plan as a table for people and as a document for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgelr.artifacts import Plan, Survey
from edgelr.progress import Progress

_COLUMNS = ("layer", "shape", "rank", "kept", "expected error", "sensitivity")


def print_plan(plan: Plan, survey: Survey, progress: Progress) -> None:
    """Show the layer table: site, shape, rank, kept share, expected error, sensitivity.

    The sensitivity is that of the whole site: the change of the output if all its energy were dropped.
    """
    energies = {site.name: site.energy for site in survey.sites}
    rows = [
        (
            site.name,
            f"{site.out} x {site.in_}",
            "dense" if site.rank is None else str(site.rank),
            f"{site.kept_share:.0%}",
            f"{site.error_share:.2%}",
            f"{site.sensitivity * energies[site.name]:.3g}",
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
        f"multiply-accumulates per token {before.macs:,} -> {after.macs:,}"
    )
    progress.note(f"predicted change of the output before tuning: {plan.predicted_loss:.4f}")


def plan_document(plan: Plan, survey: Survey) -> dict[str, Any]:
    """What ``edgelr plan --json`` prints."""
    return {
        "edgelr": 1,
        "layers": [asdict(site) for site in plan.sites],
        "skipped": [asdict(entry) for entry in survey.skipped],
        "model": {"dense": asdict(plan.dense), "candidate": asdict(plan.candidate)},
        "kept_share": plan.kept_share,
        "predicted_loss": plan.predicted_loss,
    }
