"""Stage plan: Survey + budget -> Plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from edgelr.artifact_files import read_plan, write_json
from edgelr.artifacts import Cost, Plan, SitePlan, Survey
from edgelr.errors import UsageError
from edgelr.plan.cost import Stored, dense_shapes, macs, parameters, shapes, weight_bytes
from edgelr.plan.kernels import KernelTimes
from edgelr.plan.latency import latency_budget, latency_price
from edgelr.plan.options import Choices, dropped_energy, expected_change
from edgelr.plan.planner import (
    Planner,
    Storage,
    make_planner,
    reductions_of,
    storage_price,
    usable_groups,
)
from edgelr.plan.quality import FoundShare
from edgelr.plan.ranks import Option
from edgelr.recipe.schema import Budget, Compress, Latency
from edgelr.structure import Reduction, Site

CURVE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # shares of the budget's currency that the curve shows

Measured = KernelTimes | FoundShare
"""What a budget needs that is no share: times for a latency, the share that was found for a quality."""


def plan(
    survey: Survey, compress: Compress, storage: Storage, folder: Path, measured: Measured | None = None
) -> Plan:
    """Choose what is done to every site.

    Args:
        survey: The sites and groups with their spectra and sensitivities.
        compress: Budget, allocation and rank multiple.
        storage: What a number costs in the package.
        folder: Where the Plan is written.
        measured: What was measured for a budget of latency or quality.

    Raises:
        UsageError: The budget leaves no rank, the speedup is out of reach, or sensitivities are to decide and
            were not measured.
    """
    if compress.allocate == "sensitivity" and not survey.measured:
        raise UsageError(
            "compress.allocate: sensitivity needs sensitivities, and the survey measured none",
            "survey with sensitivity_examples (in Python: sensitivity_batches), or allocate by gradient",
        )
    keep = compress.keep
    if keep.latency is not None:
        assert isinstance(measured, KernelTimes), "a budget of latency needs kernel times"
        planner, chosen, found = _for_latency(survey, compress, keep.latency, measured)
    elif keep.quality is not None:
        assert isinstance(measured, FoundShare), "a budget of quality needs a search"
        planner, chosen = _for_share(survey, compress, storage, ("parameters", measured.share))
        found = {"share": measured.share, "drop": measured.drop}
    else:
        planner, chosen = _for_share(survey, compress, storage, keep.share)
        found = {}
    curve = _curve(planner, storage, by_parameters=keep.latency is not None)
    return _write(planner.choices, reductions_of(chosen), curve, found, storage, folder)


def _for_share(
    survey: Survey, compress: Compress, storage: Storage, budget: tuple[Budget, float]
) -> tuple[Planner, list[Option]]:
    currency, share = budget
    planner = make_planner(survey, compress, storage_price(survey, currency, storage))
    return planner, planner.solve(share * planner.dense)


def _for_latency(
    survey: Survey, compress: Compress, latency: Latency, times: KernelTimes
) -> tuple[Planner, list[Option], dict[str, float]]:
    sites = {site.name: site for site in survey.sites}
    planner = make_planner(survey, compress, latency_price(sites, usable_groups(survey, compress), times))
    budget = latency_budget(
        device=latency.device,
        model_ms=times.model_ms,
        dense_ms=planner.dense,
        fastest_ms=planner.least,
        speedup=latency.speedup,
    )
    chosen = planner.solve(budget.sites_ms)
    planned_ms = budget.predicted_ms(sum(option.cost for option in chosen))
    found = {
        "dense_ms": times.model_ms,
        "planned_ms": planned_ms,
        "speedup": times.model_ms / planned_ms,
    }
    return planner, chosen, found


def _curve(planner: Planner, storage: Storage, *, by_parameters: bool) -> list[tuple[float, float]]:
    """Expected change at other budgets, by their share, or by the share of parameters that they leave."""
    curve = []
    whole = parameters(dense_shapes(planner.choices.survey.sites))
    for point in CURVE if planner.choices.survey.measured else ():
        try:
            chosen = planner.solve(point * planner.dense)
        except UsageError:
            continue  # below the smallest that is possible
        kept = parameters(_matrices(planner.choices, reductions_of(chosen), storage)) / whole
        curve.append((kept if by_parameters else point, planner.change(chosen)))
    return sorted(curve)


def _write(
    choices: Choices,
    reductions: Sequence[Reduction],
    curve: Sequence[tuple[float, float]],
    found: Mapping[str, float],
    storage: Storage,
    folder: Path,
) -> Plan:
    survey = choices.survey
    rows = _rows(choices, reductions, storage)
    matrices = _matrices(choices, reductions, storage)
    before = parameters(dense_shapes(survey.sites))
    document = {
        "sites": [asdict(row) for row in rows],
        "reductions": [asdict(reduction) for reduction in reductions],
        "dense": asdict(_cost(choices, [], Storage(precision="fp32", pivoted=False))),
        "candidate": asdict(_cost(choices, reductions, storage)),
        "kept_share": parameters(matrices) / before,
        "predicted_loss": sum(expected_change(choices, reduction) for reduction in reductions)
        if survey.measured
        else None,
        "curve": [list(point) for point in curve],
        "found": found,
        "unit": survey.unit,
    }
    write_json(folder / "plan.json", document)
    return read_plan(folder)


def _matrices(choices: Choices, reductions: Sequence[Reduction], storage: Storage) -> list[Stored]:
    """Of all sites, as they are stored."""
    reduced = {name for reduction in reductions for name in reduction.sites}
    dense = dense_shapes([site for site in choices.survey.sites if site.name not in reduced])
    made = [shapes(reduction, choices.sites, pivoted=storage.pivoted) for reduction in reductions]
    return [*dense, *(matrix for each in made for matrix in each)]


def _cost(choices: Choices, reductions: Sequence[Reduction], storage: Storage) -> Cost:
    """Cost of the whole model: sites as they are stored, everything else as it was."""
    matrices = _matrices(choices, reductions, storage)
    others = choices.survey.parameters - parameters(dense_shapes(choices.survey.sites))
    return Cost(
        parameters=others + parameters(matrices),
        bytes=others * (4 if storage.precision == "fp32" else 1) + weight_bytes(matrices, storage.precision),
        macs=macs(matrices),
    )


def _rows(choices: Choices, reductions: Sequence[Reduction], storage: Storage) -> list[SitePlan]:
    doing = {name: reduction for reduction in reductions for name in reduction.sites}
    return [_row(choices, site, doing.get(site.name), storage) for site in choices.survey.sites]


def _row(choices: Choices, site: Site, reduction: Reduction | None, storage: Storage) -> SitePlan:
    kept, error, change = 1.0, 0.0, 0.0
    if reduction is not None:
        members = [choices.sites[name] for name in reduction.sites]
        stored = shapes(reduction, choices.sites, pivoted=storage.pivoted)
        kept = parameters(stored) / parameters(dense_shapes(members))
        change = expected_change(choices, reduction)
        error = _error_share(choices, site, reduction)
    return SitePlan(
        name=site.name,
        out=site.out,
        in_=site.in_,
        form="dense" if reduction is None else reduction.form,
        rank=None if reduction is None else reduction.rank,
        kept_share=kept,
        error_share=error,
        expected_change=change,
    )


def _error_share(choices: Choices, site: Site, reduction: Reduction) -> float:
    dropped = dropped_energy(choices, reduction)
    if reduction.form in ("low-rank", "joint"):
        whole, lost = site.energy, dropped[site.name]
    else:
        whole, lost = choices.spectra[reduction.spectrum].sum(), dropped[reduction.sites[0]]
    return float(lost / whole) if whole > 0 else 0.0
