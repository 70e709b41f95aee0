"""Whether a plan's predicted change of the output is the one that is measured: 20 random plans of each kind.

    python scripts/benchmarks/prediction.py               # about 15 minutes on two cores

all-MiniLM-L6-v2 and the data of ``recipes/docs-search-best.yaml``, as in ``compression.py``. A random plan
draws for every unit of layers one of its options, evenly among those that leave at least a share of the
unit's parameters; that share is drawn once for a plan, so that plans differ in size as well as in how ranks
are spread. Each is carried out, untuned and unrefined; what is measured is one minus the mean cosine to the
dense model over 200 pairs of the test split. Predictors are compared by Spearman's rank correlation:

* the kept share of parameters, which knows nothing of the layers;
* relative energy, dropped by each layer, summed;
* energy under Kronecker factors, a gradient estimate (not comparable between heads and other factors);
* a sensitivity measured at one rank of each layer;
* sensitivities measured at three ranks of each layer.

Prints tables, writes JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from docs_search import RECIPE, write_variant
from numpy.typing import NDArray

from edgelr import stages
from edgelr.artifacts import Source, Survey
from edgelr.compress.torch_module import compressed
from edgelr.examples import Example
from edgelr.job import Job, open_job
from edgelr.plan.options import Choices, dropped_energy, expected_change
from edgelr.plan.planner import Planner, Storage, make_planner, reductions_of, storage_price
from edgelr.progress import Progress
from edgelr.structure import Reduction
from edgelr.tasks.task import get_task

KINDS = {"separate factors": (), "joint factors and heads too": ("joint", "query-key", "value-output")}
EXAMPLES = 200


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--plans", default=20, show_default=True, help="Of each kind.")
@click.option("--seed", default=0, show_default=True)
def main(out: Path, plans: int, seed: int) -> None:
    """Measure, print the tables, write OUT/prediction.json."""
    progress = Progress()
    found = {kind: measure(out, groups, plans, seed, progress) for kind, groups in KINDS.items()}
    print(table(found))
    path = out / "prediction.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}; recipe {RECIPE.name}, seed {seed}")


def measure(
    out: Path, groups: Sequence[str], plans: int, seed: int, progress: Progress
) -> list[dict[str, float]]:
    """A row for each random plan: its kept share, its predictions, and what it changed."""
    surveyed = {points: _surveyed(out, groups, points, progress) for points in (1, 3)}
    job, source, _ = surveyed[1]
    planners = {points: _planner(job, survey) for points, (job, _, survey) in surveyed.items()}
    predictors = _predictors(planners[1].choices, planners[3].choices)
    change = _measured(job, source)
    random = np.random.default_rng(seed)
    rows = []
    with progress.bar("random plans", plans) as advance:
        for _ in range(plans):
            reductions, kept = _draw(planners[1], random)
            model = compressed(source, surveyed[1][2], reductions, job.recipe, Progress(quiet=True))
            row = {name: sum(map(predict, reductions)) for name, predict in predictors.items()}
            rows.append({"kept share": -kept, **row, "measured": change(model)})
            advance(note=f"kept {kept:.2f}, changed {rows[-1]['measured']:.3f}")
    return rows


def _surveyed(
    out: Path, groups: Sequence[str], points: int, progress: Progress
) -> tuple[Job, Source, Survey]:
    compress: dict[str, Any] = {
        "keep": {"parameters": 0.5},
        "groups": list(groups),
        "refine": False,
        "calibration": {"examples": 512, "sensitivity_points": points},
    }
    recipe = write_variant(out, f"prediction-{points}", compress=compress, finetune=None)
    job = open_job(recipe, out / recipe.stem, (), None, progress)
    source = stages.load(job)
    return job, source.artifact, stages.survey_sites(job, source).artifact


def _planner(job: Job, survey: Survey) -> Planner:
    price = storage_price(survey, "parameters", Storage(precision="fp32", pivoted=False))
    return make_planner(survey, job.recipe.compress, price)


def _predictors(slopes: Choices, curves: Choices) -> Mapping[str, Callable[[Reduction], float]]:
    """Name -> predicted change of one reduction, in units of its own."""

    def relative(reduction: Reduction) -> float:
        wholes = slopes.spectra[reduction.spectrum].sum(axis=-1)
        lost = list(dropped_energy(slopes, reduction).values())
        return float((np.asarray(lost) / wholes).sum())

    return {
        "relative energy": relative,
        "gradient estimate": lambda reduction: sum(dropped_energy(slopes, reduction).values()),
        "sensitivity, 1 rank": lambda reduction: expected_change(slopes, reduction),
        "sensitivity, 3 ranks": lambda reduction: expected_change(curves, reduction),
    }


def _draw(planner: Planner, random: np.random.Generator) -> tuple[list[Reduction], float]:
    """A random plan, and the share of parameters that it keeps."""
    least = random.uniform(0.15, 0.75)
    chosen = []
    for options in planner.options.values():
        dense = max(option.cost for option in options)
        possible = [option for option in options if option.cost >= least * dense]
        chosen.append(possible[random.integers(len(possible))])
    return reductions_of(chosen), sum(option.cost for option in chosen) / planner.dense


def _measured(job: Job, source: Source) -> Callable[[Any], float]:
    """Model -> one minus its mean cosine to the dense one."""
    task = get_task(job.recipe.task.type)
    tokenizer = task.tokenizer_json(source.model_folder)
    texts = task.texts(source.examples("test", Example)[:EXAMPLES])

    def embed(model: Any) -> NDArray[np.float32]:  # noqa: ANN401
        return np.asarray(task.embed(model, tokenizer, texts, job.recipe.task.max_tokens))

    dense = embed(task.load_model(source.model_folder))
    return lambda model: float(1 - (embed(model) * dense).sum(axis=1).mean())


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation of numbers without ties."""
    first, second = (np.argsort(np.argsort(each)).astype(float) for each in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Spearman's correlation with the measured change, a predictor a line, a kind of plans a column."""
    names = [name for name in next(iter(found.values()))[0] if name != "measured"]
    lines = [f"| Spearman over {len(next(iter(found.values())))} random plans | " + " | ".join(found) + " |"]
    lines.append("|---" * (len(found) + 1) + "|")
    for name in names:
        cells = [
            f"{spearman([row[name] for row in rows], [row['measured'] for row in rows]):.3f}"
            for rows in found.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
