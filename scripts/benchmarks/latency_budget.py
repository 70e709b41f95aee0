"""Whether a package is as fast as its recipe asked for: speedups asked, predicted from kernels, and measured.

    python scripts/benchmarks/latency_budget.py                 # fp32 and int8, three speedups each
    python scripts/benchmarks/latency_budget.py --speedup 1.5   # one speedup only

Every row is ``recipes/docs-search-best.yaml``, untuned, with another budget: speed does not depend on tuning.
Speedups are over the dense model at the same precision, one text of 128 tokens on ``cpu-1t``, of the medians
of calls made in turn: all packages of a precision are timed in the same rounds. The host should do nothing
else meanwhile. Prints a table, writes JSON.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from edgelr import package_stages, stages
from edgelr.artifacts import Package, Plan
from edgelr.budgets import measure_budget
from edgelr.device.load import load_devices
from edgelr.job import open_job
from edgelr.progress import Progress
from edgelr.timing.rounds import measure_rounds, package_case

RECIPE = Path(__file__).parents[2] / "recipes" / "docs-search-best.yaml"
DEVICE = "cpu-1t"
TOKENS = 128
PRECISIONS = ("fp32", "int8-dynamic")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; times in milliseconds."""

    precision: str
    asked: float
    predicted: float
    measured: float
    dense_ms: float
    candidate_ms: float
    kept_share: float


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--speedup", "speedups", type=float, multiple=True, default=(1.2, 1.5, 1.8), show_default=True)
@click.option("--precision", "precisions", multiple=True, default=PRECISIONS, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="Measuring time of each precision.")
def main(out: Path, speedups: tuple[float, ...], precisions: tuple[str, ...], seconds: float) -> None:
    """Run every row, print the table, write OUT/latency_budget.json."""
    progress = Progress()
    rows = [row for precision in precisions for row in rows_of(out, precision, speedups, seconds, progress)]
    print(table(rows))
    path = out / "latency_budget.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")


def rows_of(
    out: Path, precision: str, speedups: tuple[float, ...], seconds: float, progress: Progress
) -> list[Row]:
    """Build a package for each speedup, then time all of them next to the dense one."""
    packages: dict[str, Package] = {}
    plans: dict[float, Plan] = {}
    for speedup in speedups:
        plans[speedup], packages["dense"], packages[str(speedup)] = build(out, precision, speedup, progress)
    device, share = load_devices()[DEVICE], seconds / len(packages)
    cases = [
        package_case(package, device, tokens=TOKENS, seconds=share, name=name)
        for name, package in packages.items()
    ]
    times = measure_rounds(cases, device, progress, label=precision)
    median = {name: statistics.median(found) for name, found in times.items()}
    return [
        Row(
            precision=precision,
            asked=speedup,
            predicted=plan.found["speedup"],
            measured=median["dense"] / median[str(speedup)],
            dense_ms=median["dense"],
            candidate_ms=median[str(speedup)],
            kept_share=plan.kept_share,
        )
        for speedup, plan in plans.items()
    ]


def build(out: Path, precision: str, speedup: float, progress: Progress) -> tuple[Plan, Package, Package]:
    """The plan for a speedup, the dense package and the candidate."""
    recipe = write_variant(out, precision, speedup)
    job = open_job(recipe, out / recipe.stem, (), None, progress)
    source = stages.load(job)
    survey = stages.survey_sites(job, source)
    plan = stages.plan_ranks(job, survey, measure_budget(job, source, survey))
    factored = stages.compress(job, source, survey, plan)
    fp32 = stages.export(job, source, factored, plan.artifact.candidate.macs)
    dense = package_stages.dense_package(job, source, survey, precision)
    return plan.artifact, dense.artifact, package_stages.quantize(job, fp32, source).artifact


def write_variant(out: Path, precision: str, speedup: float) -> Path:
    """The recipe with another budget and precision, untuned, as a file."""
    from ruamel.yaml import YAML

    document: dict[str, Any] = YAML(typ="safe").load(RECIPE.read_text(encoding="utf-8"))
    document["name"] = "latency-budget"  # the same for all: they share the dense package
    document["compress"] |= {
        "keep": {"latency": {"device": DEVICE, "speedup": speedup, "tokens": TOKENS}},
        "refine": False,  # takes minutes, and changes no shape
    }
    document["validate"]["gates"] = []
    del document["finetune"], document["quantize"]
    if precision != "fp32":
        # Untuned factors lose more than a product may.
        document["quantize"] = {"scheme": precision, "min_cosine": 1e-6}
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"latency-{precision}-{speedup}.yaml"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")  # JSON is YAML
    return path


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    header = (
        "| precision | asked | predicted | measured | off by | dense ms | candidate ms | kept parameters |"
    )
    lines = [header, "|" + "---|" * 8]
    for row in rows:
        off = row.measured / row.asked - 1
        lines.append(
            f"| {row.precision} | ×{row.asked:.2f} | ×{row.predicted:.2f} | ×{row.measured:.2f} | {off:+.0%} "
            f"| {row.dense_ms:.2f} | {row.candidate_ms:.2f} | {row.kept_share:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
