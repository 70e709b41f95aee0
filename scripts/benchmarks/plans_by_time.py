"""What a budget of time is worth beside one of parameters: the change that a plan expects, at equal time.

    python scripts/benchmarks/plans_by_time.py     # minutes: the survey, then a minute alone on the machine

The model and data of ``recipes/docs-search.yaml`` in int8, nothing compressed or tuned: for each share of the
parameters the time that its plan is expected to take with one text of 128 tokens on ``cpu-1t``, and what a
plan for that time is expected to lose. Prints a table, writes JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from edgelr import stages
from edgelr.artifacts import Survey
from edgelr.budgets import time_kernels
from edgelr.job import open_job
from edgelr.plan.kernels import KernelTimes
from edgelr.plan.latency import latency_price
from edgelr.plan.planner import Storage, make_planner, reductions_of, storage_price, usable_groups
from edgelr.plan.ranks import Option
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress

RECIPE = Path(__file__).parents[2] / "recipes" / "docs-search.yaml"
# What the speedup is does not matter: every budget is solved from the same times.
LATENCY = {"device": "cpu-1t", "speedup": 1.5, "tokens": 128, "seconds": 45}
SHARES = (0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        share: Of the parameters.
        ms: Of the whole model in int8, as planned.
        by_parameters: Expected change of the plan for that share.
        by_time: Expected change of the plan for that time.
    """

    share: float
    ms: float
    by_parameters: float
    by_time: float


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
def main(out: Path) -> None:
    """Survey, time the kernels, solve every budget, print the table, write OUT/plans_by_time.json."""
    progress = Progress()
    recipe = write_variant(out)
    job = open_job(recipe, out / recipe.stem, (), None, progress)
    source = stages.load(job)
    survey = stages.survey_sites(job, source)
    times = time_kernels(job, source, survey)
    rows = plans(survey.artifact, job.recipe.compress, times.artifact, job.precision)
    print(table(rows))
    path = out / "plans_by_time.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")


def write_variant(out: Path) -> Path:
    """The recipe with a budget of time, untuned, as a file."""
    from ruamel.yaml import YAML

    document: dict[str, Any] = YAML(typ="safe").load(RECIPE.read_text(encoding="utf-8"))
    document["compress"]["keep"] = {"latency": LATENCY}
    del document["finetune"]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "plans-by-time.yaml"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")  # JSON is YAML
    return path


def plans(survey: Survey, compress: Compress, times: KernelTimes, precision: str) -> list[Row]:
    """Every share, and the same time."""
    sites = {site.name: site for site in survey.sites}
    price = latency_price(sites, usable_groups(survey, compress), times)
    by_time = make_planner(survey, compress, price)
    storage = Storage(precision=precision, pivoted=False)
    by_parameters = make_planner(survey, compress, storage_price(survey, "parameters", storage))

    def sites_ms(chosen: list[Option]) -> float:
        reductions = reductions_of(chosen)
        reduced = {name for each in reductions for name in each.sites}
        dense = sum(price([site], None) for name, site in sites.items() if name not in reduced)
        return dense + sum(price([sites[name] for name in each.sites], each) for each in reductions)

    def row(share: float) -> Row:
        chosen = by_parameters.solve(share * by_parameters.dense)
        taken_ms = sites_ms(chosen)
        return Row(
            share=share,
            ms=times.model_ms - by_time.dense + taken_ms,
            by_parameters=by_parameters.change(chosen),
            by_time=by_time.change(by_time.solve(taken_ms)),
        )

    return [row(share) for share in SHARES]


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    header = "| kept parameters | planned ms | expected change | planned for that time |"
    lines = [header, "|" + "---|" * 4]
    lines += [
        f"| {each.share:.2f} | {each.ms:.2f} | {each.by_parameters:.3f} | {each.by_time:.3f} |"
        for each in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
