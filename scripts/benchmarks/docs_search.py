"""How much of a sentence encoder survives, at which budget, untuned and tuned, fp32 and int8.

    python scripts/benchmarks/docs_search.py                  # every row; about an hour on two cores
    python scripts/benchmarks/docs_search.py --untuned        # without the tuning

Every row is a build of ``recipes/docs-search-best.yaml`` at another budget, through the same stages as
``edgelr build``; rows share a store, so what they have in common is made once and a second run is quick.
``compression.py`` compares the ways to compress. The text is the test split (no module of it is in another
split). Prints a table, writes JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgelr import stages
from edgelr.artifacts import Factored, Source
from edgelr.errors import GateError
from edgelr.examples import Example
from edgelr.job import open_job
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.metrics.retrieval import sentence_embedding_scores
from edgelr.pipeline import build
from edgelr.progress import Progress
from edgelr.recipe.schema import Recipe
from edgelr.tasks.task import get_task

RECIPE = Path(__file__).parents[2] / "recipes" / "docs-search-best.yaml"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; shares are of the dense fp32 package, speedups at 128 tokens on ``cpu-1t``."""

    keep: float
    steps: int
    cosine: float
    mrr: float
    mrr_dense: float
    cosine_int8: float | None = None
    mrr_int8: float | None = None
    size_share: float | None = None
    speedup_dense_int8: float | None = None
    speedup_dense_fp32: float | None = None


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--keep", "keeps", type=float, multiple=True, default=(0.65, 0.5), show_default=True)
@click.option("--untuned", is_flag=True, help="Only the rows without tuning.")
def main(out: Path, keeps: tuple[float, ...], untuned: bool) -> None:
    """Run every row, print the table, write OUT/docs_search.json."""
    progress = Progress()
    rows = []
    for keep in keeps:
        rows.append(untuned_row(out, keep, progress))
        if not untuned:
            rows.append(tuned_row(out, keep, progress))
    print(table(rows))
    path = out / "docs_search.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")


def untuned_row(out: Path, keep: float, progress: Progress) -> Row:
    """Factor at a budget, and score the torch model on the test split."""
    name = f"untuned-{keep}"
    recipe = write_variant(out, name, compress={"keep": {"parameters": keep}}, finetune=None)
    job = open_job(recipe, out / name, (), None, progress)
    source = stages.load(job)
    survey = stages.survey_sites(job, source)
    plan = stages.plan_ranks(job, survey)
    factored = stages.compress(job, source, survey, plan)
    scores = score(job.recipe, source.artifact, factored.artifact)
    return Row(keep=keep, steps=0, **scores)


def tuned_row(out: Path, keep: float, progress: Progress) -> Row:
    """Build the whole recipe at a budget; a failed gate is a result like any other."""
    name = f"tuned-{keep}"
    recipe = write_variant(out, name, compress={"keep": {"parameters": keep}})
    try:
        document = build(recipe, out / name, progress=progress).document
    except GateError as error:
        progress.warn(str(error))
        document = json.loads((out / name / "report.json").read_text(encoding="utf-8"))
    job = open_job(recipe, out / name, (), None, Progress(quiet=True))
    source = stages.load(job)
    survey = stages.survey_sites(job, source)
    plan = stages.plan_ranks(job, survey)
    tuned = stages.finetune(job, source, stages.compress(job, source, survey, plan))
    int8 = {row["metric"]: row["value"] for row in document["accuracy"] if row["variant"] == "candidate"}
    p50 = {row["variant"]: row["p50_ms"] for row in document["latency"] if row["shape"] == "1 x 128 tokens"}
    assert job.recipe.finetune is not None
    return Row(
        keep=keep,
        steps=job.recipe.finetune.steps,
        **score(job.recipe, source.artifact, tuned.artifact),
        cosine_int8=int8["cosine"],
        mrr_int8=int8["mrr@10"],
        size_share=document["sizes"]["candidate"] / document["sizes"]["dense-fp32"],
        speedup_dense_int8=p50["dense-int8"] / p50["candidate"],
        speedup_dense_fp32=p50["dense-fp32"] / p50["candidate"],
    )


def write_variant(out: Path, name: str, **sections: dict[str, Any] | None) -> Path:
    """The recipe with some sections changed, as a file; a section that is None is left out."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    document = yaml.load(RECIPE.read_text(encoding="utf-8"))
    document["name"] = name
    for section, values in sections.items():
        if values is None:
            document.pop(section)
        else:
            document[section] = {**document.get(section, {}), **values}
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.yaml"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")  # JSON is YAML
    return path


def score(recipe: Recipe, source: Source, factored: Factored, most: int | None = None) -> dict[str, float]:
    """Metrics of a torch model on the test split, or its first ``most`` examples, next to the dense ones."""
    task = get_task(recipe.task.type)
    model = load_factored_into(task.load_model(source.model_folder), factored)
    mine, reference = embedded(recipe, source, model, most), dense_outputs(recipe, source, most)
    found = sentence_embedding_scores(*mine, *reference)
    ideal = sentence_embedding_scores(*reference, *reference)
    return {
        "cosine": found["cosine"].value,
        "mrr": found["mrr@10"].value,
        "mrr_dense": ideal["mrr@10"].value,
    }


def embedded(recipe: Recipe, source: Source, model: nn.Module, most: int | None) -> list[NDArray[np.float32]]:
    """Outputs for the queries and for the passages of the test split, each ``[examples, dim]``."""
    task = get_task(recipe.task.type)
    tokenizer = task.tokenizer_json(source.model_folder)
    examples = source.examples("test", Example)[:most]
    sides = [[example.query or "" for example in examples], [example.passage for example in examples]]
    return [task.embed(model, tokenizer, side, recipe.task.max_tokens) for side in sides]


_DENSE: dict[tuple[Path, int | None], list[NDArray[np.float32]]] = {}


def dense_outputs(recipe: Recipe, source: Source, most: int | None) -> list[NDArray[np.float32]]:
    """``embedded`` of the dense model, once for all rows."""
    if (source.folder, most) not in _DENSE:
        dense = get_task(recipe.task.type).load_model(source.model_folder)
        _DENSE[source.folder, most] = embedded(recipe, source, dense, most)
    return _DENSE[source.folder, most]


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    header = (
        "| kept | steps | cosine fp32 | MRR@10 fp32 (dense) | cosine int8 "
        "| MRR@10 int8 | size / dense fp32 | speed / dense int8 | speed / dense fp32 |"
    )
    lines = [header, "|" + "---|" * 9]
    for row in rows:
        cells = [
            f"{row.keep:g}",
            str(row.steps or "-"),
            f"{row.cosine:.3f}",
            f"{row.mrr:.3f} ({row.mrr_dense:.3f})",
            *(_cell(value, ".3f") for value in (row.cosine_int8, row.mrr_int8, row.size_share)),
            *(_cell(value, ".2f") for value in (row.speedup_dense_int8, row.speedup_dense_fp32)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, digits: str) -> str:
    return "-" if value is None else format(value, digits)


if __name__ == "__main__":
    main()
