"""How much of a model each way to compress leaves, untuned: one table, all methods, same model and text.

    python scripts/benchmarks/compression.py               # every row; about 40 minutes on two cores
    python scripts/benchmarks/compression.py --keep 0.5    # one budget only

all-MiniLM-L6-v2, its 36 encoder linears, the data of ``recipes/docs-search-best.yaml`` (seed 0): statistics
on 512 calibration examples, sensitivities on 64 of them, the mean cosine to the dense model on 200 of the
test split's pairs (400 texts), fp32. The baselines are this project's own factors under the others' rules, so
that only the rule differs:

* plain SVD, the same share everywhere;
* SVD-LLM: whitened factors, the same share everywhere;
* LiteASR: whitened factors, in each layer the least rank that keeps a share of the output's energy, the same
  share everywhere;
* AIMET's greedy search: plain SVD, in each layer the least rank that changes the output by no more than a
  limit when that layer alone is compressed, the same limit everywhere.

Every other row is ``edgelr plan`` and ``edgelr build`` with some ideas switched off. Prints a table, writes
JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from docs_search import RECIPE, score, write_variant

from edgelr import stages
from edgelr.artifacts import Factored, Survey
from edgelr.job import Job, open_job
from edgelr.progress import Progress
from edgelr.structure import Reduction, Site


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table: settings of ``compress``, or a baseline's rule."""

    name: str
    factors: str
    allocate: str = "sensitivity"
    groups: tuple[str, ...] = ()
    points: int = 1
    center: bool = False
    refine: bool = False
    pivot: bool = False
    rule: Callable[[Survey, float], list[Reduction]] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method at one budget."""

    method: str
    keep: float
    cosine: float
    kept_share: float
    predicted_change: float | None


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--keep", "keeps", type=float, multiple=True, default=(0.8, 0.65, 0.5, 0.35), show_default=True)
@click.option("--only", multiple=True, help="Methods whose name contains this.")
def main(out: Path, keeps: tuple[float, ...], only: tuple[str, ...]) -> None:
    """Run every row, print the table, write OUT/compression.json."""
    progress = Progress()
    rows = []
    for method in METHODS:
        if not only or any(part in method.name for part in only):
            rows += [measure(out, method, keep, progress) for keep in keeps]
            print(table(rows, keeps))
    path = out / "compression.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}; recipe {RECIPE.name}, seed 0")


def measure(out: Path, method: Method, keep: float, progress: Progress) -> Row:
    """Compress by one method at one budget, and score the torch model on the test split."""
    name = "".join(letter if letter.isalnum() else "-" for letter in method.name.lower()).strip("-")
    compress: dict[str, Any] = {
        "keep": {"parameters": keep},
        "factors": method.factors,
        "allocate": method.allocate,
        "groups": list(method.groups),
        "center": method.center,
        "refine": method.refine,
        "calibration": {"examples": 512, "sensitivity_points": method.points},
    }
    recipe = write_variant(out, name, compress=compress, finetune=None, export={"pivot": method.pivot})
    job = open_job(recipe, out / name, (), None, progress)
    source = stages.load(job)
    survey = stages.survey_sites(job, source)
    plan = stages.plan_ranks(job, survey)
    if method.rule is not None:
        reductions = method.rule(survey.artifact, keep)
        artifact = replace(plan.artifact, reductions=tuple(reductions))
        factored = _compressed(job, source.artifact, survey.artifact, artifact, out / name / "ruled")
        share, change = _share(survey.artifact.sites, reductions), None
    else:
        factored = stages.compress(job, source, survey, plan).artifact
        share, change = plan.artifact.kept_share, plan.artifact.predicted_loss
    cosine = score(job.recipe, source.artifact, factored, EXAMPLES)["cosine"]
    return Row(method=method.name, keep=keep, cosine=cosine, kept_share=share, predicted_change=change)


def _compressed(job: Job, source: Any, survey: Survey, plan: Any, folder: Path) -> Factored:  # noqa: ANN401
    from edgelr.compress.stage import compress

    folder.mkdir(parents=True, exist_ok=True)
    return compress(source, survey, plan, job.recipe, folder, job.progress)


def energy_rule(survey: Survey, keep: float) -> list[Reduction]:
    """LiteASR: the least rank that keeps a share of the energy, the same share everywhere."""
    spectra = _spectra(survey)

    def ranks(share: float) -> dict[str, int]:
        return {
            site.name: int(np.searchsorted(np.cumsum(spectra[site.name]), share * site.energy)) + 1
            for site in survey.sites
        }

    return _largest(survey, keep, ranks, 0.0, 1.0)


def change_rule(survey: Survey, keep: float) -> list[Reduction]:
    """AIMET: the least rank whose own change of the output is within a limit, the same limit everywhere."""
    spectra = _spectra(survey)

    def ranks(strictness: float) -> dict[str, int]:
        limit = 10 ** (1 - 8 * strictness)
        found = {}
        for site in survey.sites:
            tails = np.append(np.cumsum(spectra[site.name][::-1])[::-1], 0.0)
            found[site.name] = next(
                rank
                for rank in range(1, len(tails))
                if site.sensitivity.change(float(tails[rank])) <= limit or rank == len(tails) - 1
            )
        return found

    return _largest(survey, keep, ranks, 0.0, 1.0)


def _largest(
    survey: Survey, keep: float, ranks: Callable[[float], dict[str, int]], low: float, high: float
) -> list[Reduction]:
    """The strictest setting of a rule that fits the budget, by bisection; ranks in multiples of 16."""

    def reductions(setting: float) -> list[Reduction]:
        made = []
        for site in survey.sites:
            rank = max(16, round(ranks(setting)[site.name] / 16) * 16)
            if rank * (site.out + site.in_) < site.out * site.in_:
                made.append(Reduction(form="low-rank", sites=(site.name,), rank=rank))
        return made

    for _ in range(30):
        middle = (low + high) / 2
        fits = _share(survey.sites, reductions(middle)) <= keep
        low, high = (middle, high) if fits else (low, middle)
    return reductions(low)


def _share(sites: Sequence[Site], reductions: Sequence[Reduction]) -> float:
    """Kept share of the sites' parameters; of low-rank layers only."""
    ranks = {reduction.sites[0]: reduction.rank for reduction in reductions}
    kept = sum(
        ranks[site.name] * (site.out + site.in_) if site.name in ranks else site.out * site.in_
        for site in sites
    )
    return kept / sum(site.out * site.in_ for site in sites)


def _spectra(survey: Survey) -> dict[str, Any]:
    with np.load(survey.folder / "spectra.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


EXAMPLES = 200
HEADS = ("query-key", "value-output")
METHODS = (
    Method(name="plain SVD, uniform", factors="plain", allocate="uniform"),
    Method(name="SVD-LLM: whitened, uniform", factors="whitened", allocate="uniform"),
    Method(name="LiteASR: whitened, energy threshold", factors="whitened", rule=energy_rule),
    Method(name="AIMET: plain SVD, greedy", factors="plain", points=3, rule=change_rule),
    Method(name="whitened, sensitivity", factors="whitened"),
    Method(name="whitened, sensitivity, centered", factors="whitened", center=True),
    Method(name="whitened, sensitivity, joint, heads", factors="whitened", groups=("joint", *HEADS)),
    Method(name="kronecker, uniform", factors="kronecker", allocate="uniform"),
    Method(name="kronecker, gradient", factors="kronecker", allocate="gradient"),
    Method(name="kronecker, sensitivity", factors="kronecker"),
    Method(name="+ curves (3 points)", factors="kronecker", points=3),
    Method(name="+ centered", factors="kronecker", center=True),
    Method(name="+ joint", factors="kronecker", groups=("joint",)),
    Method(name="+ heads", factors="kronecker", groups=HEADS),
    Method(name="+ joint and heads (the default)", factors="kronecker", groups=("joint", *HEADS)),
    Method(name="the default with curves", factors="kronecker", groups=("joint", *HEADS), points=3),
    Method(
        name="the default with curves, pivoted",
        factors="kronecker",
        groups=("joint", *HEADS),
        points=3,
        pivot=True,
    ),
    Method(name="the default, pivoted", factors="kronecker", groups=("joint", *HEADS), pivot=True),
    Method(name="the default, refined", factors="kronecker", groups=("joint", *HEADS), refine=True),
)


def table(rows: Sequence[Row], keeps: Sequence[float]) -> str:
    """Cosine to the dense model, a method a line, a budget a column."""
    lines = [
        "| cosine, untuned, kept | " + " | ".join(f"{keep:.2f}" for keep in keeps) + " |",
        "|---" * (len(keeps) + 1) + "|",
    ]
    for name in dict.fromkeys(row.method for row in rows):
        found = {row.keep: row.cosine for row in rows if row.method == name}
        cells = [f"{found[keep]:.4f}" if keep in found else "-" for keep in keeps]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
