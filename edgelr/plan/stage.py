"""Stage plan: Survey + budget -> Plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from edgelr.artifact_files import read_plan, write_json
from edgelr.artifacts import Cost, Plan, Site, SitePlan, Survey
from edgelr.plan.cost import cost, macs, parameters, useful_ranks, weight_bytes
from edgelr.plan.ranks import Option, allocate, allocate_uniform
from edgelr.recipe.schema import Allocation, Compress

Spectra = Mapping[str, NDArray[np.float64]]


def plan(survey: Survey, compress: Compress, precision: str, folder: Path) -> Plan:
    """Choose a rank, or dense, for every site.

    Args:
        survey: The sites with their spectra and sensitivities.
        compress: Budget, allocation and rank multiple.
        precision: ``fp32`` or the quantization scheme; what a budget of bytes counts.
        folder: Where the Plan is written.

    Raises:
        UsageError: The budget leaves no rank.
    """
    with np.load(survey.folder / "spectra.npz", allow_pickle=False) as archive:
        spectra = {name: archive[name] for name in archive.files}
    budget, share = compress.keep.budget
    dense = {site.name: cost(site, None, budget, precision) for site in survey.sites}
    options = {
        site.name: [
            Option(rank=rank, cost=price, loss=_loss(site, spectra[site.name], rank, compress.allocate))
            for rank in (*useful_ranks(site, compress.rank_multiple), None)
            # int8 stores a scale for each channel, of which two factors have more
            if (price := cost(site, rank, budget, precision)) < dense[site.name] or rank is None
        ]
        for site in survey.sites
    }
    limit = share * sum(dense.values())
    solve = allocate_uniform if compress.allocate == "uniform" else allocate
    ranks = {name: option.rank for name, option in solve(options, limit).items()}
    return _write(survey, ranks, spectra, precision, folder)


def _loss(site: Site, spectrum: NDArray[np.float64], rank: int | None, allocation: Allocation) -> float:
    dropped = 0.0 if rank is None else float(spectrum[rank:].sum())
    match allocation:
        case "sensitivity":
            return site.sensitivity * dropped
        case "energy" | "uniform":
            return dropped / site.energy if site.energy > 0 else 0.0
        case _:
            assert_never(allocation)


def _write(
    survey: Survey, ranks: Mapping[str, int | None], spectra: Spectra, precision: str, folder: Path
) -> Plan:
    rows = []
    for site in survey.sites:
        rank = ranks[site.name]
        dropped = 0.0 if rank is None else float(spectra[site.name][rank:].sum())
        rows.append(
            SitePlan(
                name=site.name,
                out=site.out,
                in_=site.in_,
                rank=rank,
                kept_share=parameters(site, rank) / parameters(site, None),
                error_share=dropped / site.energy if site.energy > 0 else 0.0,
                sensitivity=site.sensitivity,
            )
        )
    dense = _cost(survey, dict.fromkeys(ranks), "fp32")
    candidate = _cost(survey, ranks, precision)
    document = {
        "sites": [vars(row) for row in rows],
        "dense": vars(dense),
        "candidate": vars(candidate),
        "kept_share": sum(parameters(site, ranks[site.name]) for site in survey.sites)
        / sum(parameters(site, None) for site in survey.sites),
        "predicted_loss": sum(
            site.sensitivity * row.error_share * site.energy
            for site, row in zip(survey.sites, rows, strict=True)
        ),
    }
    write_json(folder / "plan.json", document)
    return read_plan(folder)


def _cost(survey: Survey, ranks: Mapping[str, int | None], precision: str) -> Cost:
    """Cost of the whole model: sites at their ranks, everything else as it was."""
    others = survey.parameters - sum(parameters(site, None) for site in survey.sites)
    other_bytes = others * (4 if precision == "fp32" else 1)
    return Cost(
        parameters=others + sum(parameters(site, ranks[site.name]) for site in survey.sites),
        bytes=other_bytes + sum(weight_bytes(site, ranks[site.name], precision) for site in survey.sites),
        macs=sum(macs(site, ranks[site.name]) for site in survey.sites),
    )
