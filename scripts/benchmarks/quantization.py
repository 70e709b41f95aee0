"""What each quantization scheme costs and gains, on a dense and on a factored sentence encoder.

    python scripts/benchmarks/quantization.py             # every row; half an hour on two cores
    python scripts/benchmarks/quantization.py --keep 0.5  # one budget, that of the quickstart

all-MiniLM-L6-v2 and the data of ``recipes/docs-search.yaml``. Sides: the dense model with all of its tokens;
the same with rows of its own only for tokens that the training text has; factored at each budget and tuned
as the recipe says, likewise. Every scheme is given to every side, calibrated on the calibration split. The
row ``plain int8`` is what a user has without this project: the model as torch exports it, through ONNX
Runtime's ``quantize_dynamic`` as it is by default, which is also what Olive's and Optimum's dynamic
quantization call.

Cosine is to the side's own fp32; MRR@10 is on the 500 pairs of the test split; times are medians on
``cpu-1t``, batch 1, a process each, interleaved. The host should do nothing else meanwhile. Prints a table,
writes JSON.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import click
import docs_search

from edgelr import package_stages, stages
from edgelr.artifacts import Package
from edgelr.device.load import find_device
from edgelr.device.session import open_session
from edgelr.errors import QuantizeError
from edgelr.job import Job, Made, open_job
from edgelr.kinds import sentence_embedding
from edgelr.progress import Progress
from edgelr.recipe.quantize import Quantize, Scheme
from edgelr.report.markdown import table
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.graph import describe_graph
from edgelr.runtime.package import model_path, seal_package
from edgelr.validate.latency import measure_latency

RECIPE = docs_search.RECIPE.with_name("docs-search.yaml")
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
LENGTHS = (1, 16, 128)
PLAIN = "plain int8"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A side with a scheme. A scheme that fails says why, and has no figures."""

    side: str
    scheme: str
    megabytes: float | None = None
    cosine: float | None = None
    mrr: float | None = None
    p50_ms: dict[int, float] = field(default_factory=dict)
    failed: str | None = None


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--keep", "keeps", type=float, multiple=True, default=(0.5, 0.8), show_default=True)
@click.option("--seconds", default=90.0, show_default=True, help="Measuring time, all rows together.")
def main(out: Path, keeps: tuple[float, ...], seconds: float) -> None:
    """Give every side every scheme, score and time them; print the table, write OUT/quantization.json."""
    progress = Progress()
    packages: dict[tuple[str, str], Package] = {}
    failed: list[Row] = []
    for side, (job, source, fp32) in sides(out, keeps, progress).items():
        packages[side, "fp32"] = fp32.artifact
        for scheme in SCHEMES:
            try:
                made = package_stages.quantize(job, fp32, source, Quantize(scheme=scheme, min_cosine=1e-6))
                packages[side, scheme] = made.artifact
            except QuantizeError as error:
                failed.append(Row(side=side, scheme=scheme, failed=error.found))
        if side == "dense":
            packages[side, PLAIN] = plain_int8(job, fp32.artifact, out / "plain-int8")
    rows = [*timed(packages, seconds, progress), *failed]
    print(shown(rows))
    path = out / "quantization.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")


def sides(
    out: Path, keeps: Sequence[float], progress: Progress
) -> dict[str, tuple[Job, Made[Any], Made[Package]]]:
    """The fp32 packages, by name, with the builds that they are of."""
    found = {}
    for keep in (1.0, *keeps):
        finetune = {} if keep < 1.0 else None
        docs_search.RECIPE = RECIPE
        changed: dict[str, dict[str, Any] | None] = {"compress": {"keep": {"parameters": keep}}}
        if finetune is None:
            changed["finetune"] = None
        recipe = docs_search.write_variant(out, f"quantization-{keep}", **changed)
        job = open_job(recipe, out / f"quantization-{keep}", (), None, progress)
        source = stages.load(job)
        survey = stages.survey_sites(job, source)
        plan = stages.plan_ranks(job, survey)
        factored = stages.finetune(job, source, stages.compress(job, source, survey, plan))
        if keep == 1.0:
            found["dense"] = (job, source, package_stages.dense_package(job, source, survey, "fp32"))
        name = "dense, used tokens" if keep == 1.0 else f"kept {keep:g}, used tokens"
        found[name] = (job, source, stages.export(job, source, factored, plan.artifact.candidate.macs))
    return found


def plain_int8(job: Job, dense: Package, folder: Path) -> Package:
    """The dense model as torch exports it, through ``quantize_dynamic`` as it is by default."""
    from onnxruntime.quantization import quantize_dynamic
    from onnxscript.optimizer import optimize

    from edgelr.export.convert import convert
    from edgelr.export.graphs import matrix_count, traced_form
    from edgelr.export.tidy import tidy
    from edgelr.lowrank.graph_file import write_graph
    from edgelr.tasks.task import Reading, get_task

    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(dense.folder, folder, ignore=shutil.ignore_patterns("model.onnx*", "manifest.json"))
    task = get_task("sentence-embedding")
    reading = Reading(folder=job.model_folder, max_tokens=int(dense.settings["max_tokens"]))
    examples = folder_examples(dense.folder, sentence_embedding.EXAMPLE)
    (spec,) = task.graphs(task.load_model(job.model_folder), reading, examples)
    graph = convert(spec, traced_form(spec.module), opset=20)
    optimize(graph)
    fp32 = folder / "fp32.onnx"
    write_graph(tidy(graph, spec, matrix_count(spec.module, spec.idle)), fp32)
    quantize_dynamic(fp32, folder / "model.onnx")
    fp32.unlink()
    return seal_package(
        folder,
        name=f"{dense.name}-plain",
        task=dense.task,
        graphs={"model": describe_graph(folder / "model.onnx")},
        precision="int8-dynamic",
        cost=dense.cost,
        settings=dense.settings,
        source=dense.source,
        gates=(),
        accuracy={},
    )


def timed(packages: dict[tuple[str, str], Package], seconds: float, progress: Progress) -> list[Row]:
    """Score every package, then time all of them."""
    device = find_device("cpu-1t")
    vectors = {key: answers(package) for key, package in packages.items()}
    names = {f"{side} / {scheme}": (side, scheme) for side, scheme in packages}
    latency, _ = measure_latency(
        {name: packages[key] for name, key in names.items()},
        device,
        progress,
        lengths=LENGTHS,
        seconds=seconds,
    )
    rows = []
    for name, (side, scheme) in names.items():
        package = packages[side, scheme]
        own = sentence_embedding.judge(
            folder_examples(package.folder, sentence_embedding.EXAMPLE), package.folder
        )
        found = own.score(vectors[side, scheme], vectors[side, "fp32"])
        times = [row.p50_ms for row in latency if row.variant == name]
        rows.append(
            Row(
                side=side,
                scheme=scheme,
                megabytes=package.cost.bytes / 1e6,
                cosine=found["cosine"].value,
                mrr=found["mrr@10"].value,
                p50_ms=dict(zip(LENGTHS, times, strict=True)),
            )
        )
    return rows


def answers(package: Package) -> Any:  # noqa: ANN401 - as the judge's
    """The package's vectors of the test split."""
    examples = folder_examples(package.folder, sentence_embedding.EXAMPLE)
    session = open_session(model_path(package), find_device("cpu-1t"))
    return sentence_embedding.judge(examples, package.folder).answer(package, {"model": session}, None)


def shown(rows: Sequence[Row]) -> str:
    """The table: speedups at 128 tokens, to dense int8 as this project exports it and to plain int8."""
    times = {(row.side, row.scheme): row.p50_ms for row in rows if row.p50_ms}
    yardsticks = times["dense", "int8-dynamic"], times["dense", PLAIN]
    lines = []
    for row in rows:
        if row.failed is not None:
            lines.append((row.side, row.scheme, row.failed, *[""] * 7))
            continue
        speeds = (f"x{base[128] / row.p50_ms[128]:.2f}" for base in yardsticks)
        milliseconds = (f"{row.p50_ms[length]:.2f}" for length in LENGTHS)
        figures = (f"{row.megabytes:.1f}", f"{row.cosine:.4f}", f"{row.mrr:.4f}", *milliseconds, *speeds)
        lines.append((row.side, row.scheme, *figures))
    heading = ("side", "scheme", "MB", "cosine to its fp32", "MRR@10")
    lengths = tuple(f"ms at {length}" for length in LENGTHS)
    return "\n".join(table((*heading, *lengths, "of dense int8", "of plain int8"), lines))


if __name__ == "__main__":
    main()
