"""What each quantization scheme costs and gains, on a dense and on a factored sentence encoder.

    python scripts/benchmarks/quantization.py make   # builds, quantizes and scores; half an hour on two cores
    python scripts/benchmarks/quantization.py time   # times what was made, on a host that rests
    ... time --piece 1 --pieces 4                    # the first quarter of the rows, a minute and a half

all-MiniLM-L6-v2 and the data of ``recipes/docs-search.yaml``. Sides: the dense model with all of its tokens;
the same with rows of its own only for tokens that the training text has; factored at each budget and tuned as
the recipe says, likewise. Each is quantized on the recipe's calibration data. ``plain`` is what a user has
without this project: the model as torch exports it, through ONNX Runtime's ``quantize_dynamic`` as it is by
default. ``--olive`` and ``--optimum`` are interpreters of environments with these; see
``quantization_others.py``.

Cosine is to the side's own fp32, over both texts of the 500 pairs of the test split; MRR@10 is on these.
Times are medians on ``cpu-1t``, batch 1, a process each, interleaved; in every piece there is what a row is
compared with: this project's dense int8, ``plain``, and that with its session tuned.
Prints a table, writes JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import click
import docs_search

from edgelr import package_stages, stages
from edgelr.artifacts import Package
from edgelr.device.load import find_device
from edgelr.device.session import open_session
from edgelr.errors import EdgelrError
from edgelr.job import Job, Made, open_job
from edgelr.kinds import sentence_embedding
from edgelr.progress import Progress
from edgelr.quantize.calibration import data_of_source
from edgelr.quantize.stage import quantize_graph
from edgelr.recipe.quantize import Quantize, Scheme
from edgelr.report.markdown import table
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.graph import describe_graph
from edgelr.runtime.package import model_path, open_package, seal_package
from edgelr.validate.latency import measure_latency

RECIPE = docs_search.RECIPE.with_name("docs-search.yaml")
OTHERS = Path(__file__).with_name("quantization_others.py")
LENGTHS = (1, 16, 128)
DENSE, PLAIN, TUNED_PLAIN = "dense", "plain int8", "plain int8, tuned session"
# What makes torch's export quicker on this processor (``validate.session_seconds`` finds it).
TUNED = {"cpu-1t": {"optimization.disable_specified_optimizers": "SkipLayerNormFusion"}}
YARDSTICKS = ("int8-dynamic", PLAIN, TUNED_PLAIN)  # of the dense side
SMALLEST = {
    "weight-int4, int4 tokens": {"scheme": "weight-int4", "vocabulary": "int4"},
    "weight-int4 of 64, int4 tokens": {"scheme": "weight-int4", "vocabulary": "int4", "block_size": 64},
    "int8-dynamic, int4 tokens": {"scheme": "int8-dynamic", "vocabulary": "int4"},
}
ROUNDINGS = {f"weight-int4, {each}": {"scheme": "weight-int4", "rounding": each} for each in ("plain", "hqq")}
Vectors = Any  # of queries and of passages


@dataclass(frozen=True, kw_only=True)
class Row:
    """A side with a scheme. A scheme that fails says why, and has no figures."""

    side: str
    scheme: str
    megabytes: float | None = None
    cosine: float | None = None
    mrr: float | None = None
    p50_ms: dict[int, float] = field(default_factory=dict)
    speedups: dict[str, float] = field(default_factory=dict)  # at the longest, against each yardstick
    failed: str | None = None


@click.group()
def main() -> None:
    """Give every side every scheme, score and time them."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--keep", "keeps", type=float, multiple=True, default=(0.5, 0.8), show_default=True)
@click.option("--olive", help="An interpreter that has olive-ai.")
@click.option("--optimum", help="An interpreter that has optimum-onnx.")
@click.option("--score/--no-score", default=True, show_default=True, help="Without, there is only a time.")
def make(out: Path, keeps: tuple[float, ...], olive: str | None, optimum: str | None, *, score: bool) -> None:
    """Build, quantize and score; packages go to OUT/quantization, scores to OUT/quantization.json."""
    progress = Progress()
    folder = out / "quantization"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows: list[Row] = []
    for side, (job, source, fp32) in sides(out, keeps, progress).items():
        exact = answers(fp32.artifact) if score else None
        rows.append(scored(side, "fp32", fp32.artifact, exact))
        shutil.copytree(fp32.artifact.folder, folder / slug(side, "fp32"))
        feeds = data_of_source(fp32.artifact, source.artifact).feeds["model"]
        for scheme, settings in schemes(side).items():
            target = folder / slug(side, scheme)
            try:
                package = quantized(fp32.artifact, target, settings, feeds)
            except EdgelrError as error:
                rows.append(Row(side=side, scheme=scheme, failed=str(error)))
                continue
            rows.append(scored(side, scheme, package, exact))
            print(rows[-1], flush=True)
        if side == DENSE:
            rows += others(job, fp32.artifact, folder, {"olive": olive, "optimum": optimum}, exact)
        write(out, rows)
    print(shown(rows))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--seconds", default=75.0, show_default=True, help="Measuring time, all rows together.")
@click.option("--piece", default=1, show_default=True, help="Which of them, from 1.")
@click.option("--pieces", default=1, show_default=True, help="How many there are.")
def time(out: Path, seconds: float, piece: int, pieces: int) -> None:
    """Time what ``make`` made; print the table, write the times into OUT/quantization.json."""
    rows = [Row(**each) for each in json.loads((out / "quantization.json").read_text(encoding="utf-8"))]
    if not any(row.scheme == TUNED_PLAIN for row in rows):
        rows += [replace(row, scheme=TUNED_PLAIN) for row in rows if row.scheme == PLAIN]
    standing = [row for row in rows if row.side == DENSE and row.scheme in YARDSTICKS]
    # The dense model with fewer tokens takes as long as with all.
    others = [row for row in rows if row.failed is None and row.side != used(DENSE) and row not in standing]
    taken = [*standing, *others[piece - 1 :: pieces]]
    packages = {named(row): opened(row, out) for row in taken}
    found, _ = measure_latency(
        packages, find_device("cpu-1t"), Progress(), lengths=LENGTHS, seconds=seconds, seed=piece
    )
    times: dict[str, list[float]] = {}
    for each in found:
        times.setdefault(each.variant, []).append(each.p50_ms)
    last = {row.scheme: times[named(row)][-1] for row in standing}
    rows = [
        replace(
            row,
            p50_ms=dict(zip(LENGTHS, times[named(row)], strict=True)),
            speedups={scheme: last[scheme] / times[named(row)][-1] for scheme in last},
        )
        if row in taken
        else row
        for row in rows
    ]
    write(out, rows)
    print(shown(rows))


def named(row: Row) -> str:
    """What a row is called where all sides are measured together."""
    return f"{row.side} / {row.scheme}"


def opened(row: Row, out: Path) -> Package:
    """The package of a row, with the session settings that it is timed with."""
    if row.scheme == TUNED_PLAIN:
        return replace(open_package(out / "quantization" / slug(DENSE, PLAIN)), session=TUNED)
    return open_package(out / "quantization" / slug(row.side, row.scheme))


def write(out: Path, rows: Sequence[Row]) -> None:
    """Write OUT/quantization.json."""
    text = json.dumps([asdict(row) for row in rows], indent=1)
    (out / "quantization.json").write_text(text + "\n", encoding="utf-8")


def slug(side: str, scheme: str) -> str:
    """A name of a folder."""
    return f"{side}-{scheme}".replace(",", "").replace(" ", "-")


def used(side: str) -> str:
    """What a side is called whose tokens are those of the training text."""
    return f"{side}, used tokens"


def schemes(side: str) -> dict[str, dict[str, Any]]:
    """What a side is given: everything, or where only bytes differ from another side, what makes it small."""
    if side == used(DENSE):
        return {"int8-dynamic": {"scheme": "int8-dynamic"}, **SMALLEST}
    every = {scheme: {"scheme": scheme} for scheme in get_args(Scheme)}
    return every | (ROUNDINGS if side == DENSE else SMALLEST)


def sides(
    out: Path, keeps: Sequence[float], progress: Progress
) -> dict[str, tuple[Job, Made[Any], Made[Package]]]:
    """The fp32 packages, by name, with the builds that they are of."""
    found = {}
    for keep in (1.0, *keeps):
        docs_search.RECIPE = RECIPE
        changed: dict[str, dict[str, Any] | None] = {"compress": {"keep": {"parameters": keep}}}
        if keep == 1.0:
            changed["finetune"] = None
        recipe = docs_search.write_variant(out, f"quantization-{keep}", **changed)
        job = open_job(recipe, out / f"quantization-{keep}", (), None, progress)
        source = stages.load(job)
        survey = stages.survey_sites(job, source)
        plan = stages.plan_ranks(job, survey)
        factored = stages.finetune(job, source, stages.compress(job, source, survey, plan))
        if keep == 1.0:
            found[DENSE] = (job, source, package_stages.dense_package(job, source, survey, "fp32"))
        name = used(DENSE if keep == 1.0 else f"kept {keep:g}")
        found[name] = (job, source, stages.export(job, source, factored, plan.artifact.candidate.macs))
    return found


def quantized(
    fp32: Package, folder: Path, settings: Mapping[str, Any], feeds: Sequence[Mapping[str, Any]]
) -> Package:
    """A package with a scheme; without the list of what each layer loses, which takes longest."""
    wanted = Quantize.model_validate(settings)
    copied(fp32, folder)
    quantize_graph(model_path(fp32), folder / "model.onnx", wanted, feeds)
    return sealed(fp32, folder, wanted.scheme)


def copied(fp32: Package, folder: Path) -> None:
    """Everything of a package but its graph."""
    shutil.copytree(fp32.folder, folder, ignore=shutil.ignore_patterns("model.onnx*", "manifest.json"))


def sealed(fp32: Package, folder: Path, precision: str) -> Package:
    """The package of a folder with another graph."""
    return seal_package(
        folder,
        name=f"{fp32.name}-{precision}",
        task=fp32.task,
        graphs={"model": describe_graph(folder / "model.onnx")},
        precision=precision,
        cost=fp32.cost,
        settings=fp32.settings,
        source=fp32.source,
        gates=(),
        accuracy={},
    )


def others(
    job: Job, dense: Package, folder: Path, interpreters: Mapping[str, str | None], exact: Vectors
) -> list[Row]:
    """What the dense model becomes elsewhere, each from torch's export."""
    torch_fp32 = folder / "torch-export.onnx"
    export_plainly(job, dense, torch_fp32)
    tools = {PLAIN: (None, "dynamic")}
    for tool, interpreter in interpreters.items():
        if interpreter is not None:
            kinds = ("dynamic",) if tool == "optimum" else ("dynamic", "int4")
            tools |= {f"{tool} {kind}": (interpreter, kind) for kind in kinds}
    rows = []
    for name, (interpreter, kind) in tools.items():
        target = folder / slug(DENSE, name)
        copied(dense, target)
        if interpreter is None:
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(torch_fp32, target / "model.onnx")
        else:
            files = [str(torch_fp32.resolve()), str((target / "model.onnx").resolve())]
            command = [interpreter, str(OTHERS), name.split()[0], kind, *files]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                said = ran.stderr.strip().splitlines()[-1]
                rows.append(Row(side=DENSE, scheme=name, failed=said))
                continue
        package = sealed(dense, target, "int4" if kind != "dynamic" else "int8-dynamic")
        rows.append(scored(DENSE, name, package, exact))
        print(rows[-1], flush=True)
    return rows


def export_plainly(job: Job, dense: Package, path: Path) -> None:
    """Write the dense model as torch exports it, with constants folded and nothing fused."""
    from onnxscript.optimizer import optimize

    from edgelr.export.convert import convert
    from edgelr.export.graphs import matrix_count, traced_form
    from edgelr.export.tidy import tidy
    from edgelr.lowrank.graph_file import write_graph
    from edgelr.tasks.task import Reading, get_task

    task = get_task("sentence-embedding")
    reading = Reading(folder=job.model_folder, max_tokens=int(dense.settings["max_tokens"]))
    examples = folder_examples(dense.folder, sentence_embedding.EXAMPLE)
    (spec,) = task.graphs(task.load_model(job.model_folder), reading, examples)
    graph = convert(spec, traced_form(spec.module), opset=20)
    optimize(graph)
    write_graph(tidy(graph, spec, matrix_count(spec.module, spec.idle)), path)


def scored(side: str, scheme: str, package: Package, exact: Vectors | None) -> Row:
    """Cosine to fp32, and how well texts are found; bytes only without the vectors of fp32."""
    row = Row(side=side, scheme=scheme, megabytes=package.cost.bytes / 1e6)
    if exact is None:
        return row
    examples = folder_examples(package.folder, sentence_embedding.EXAMPLE)
    found = sentence_embedding.judge(examples, package.folder).score(answers(package), exact)
    return replace(row, cosine=found["cosine"].value, mrr=found["mrr@10"].value)


def answers(package: Package) -> Vectors:
    """The package's vectors of the test split."""
    examples = folder_examples(package.folder, sentence_embedding.EXAMPLE)
    session = open_session(model_path(package), find_device("cpu-1t"))
    return sentence_embedding.judge(examples, package.folder).answer(package, {"model": session}, None)


def shown(rows: Sequence[Row]) -> str:
    """The table; speeds at 128 tokens are against this project's dense int8, plain int8, and that tuned."""
    lines: list[tuple[str, ...]] = []
    for row in rows:
        if row.failed is not None:
            lines.append((row.side, row.scheme, row.failed, *[""] * 8))
            continue
        milliseconds = {int(length): f"{value:.2f}" for length, value in row.p50_ms.items()}
        lines.append(
            (
                row.side,
                row.scheme,
                f"{row.megabytes:.1f}",
                "" if row.cosine is None else f"{row.cosine:.4f}",
                "" if row.mrr is None else f"{row.mrr:.4f}",
                *(milliseconds.get(length, "") for length in LENGTHS),
                *(f"x{row.speedups[each]:.2f}" if each in row.speedups else "" for each in YARDSTICKS),
            )
        )
    heading = ("side", "scheme", "MB", "cosine to its fp32", "MRR@10")
    lengths = tuple(f"ms at {length}" for length in LENGTHS)
    return table((*heading, *lengths, "of dense int8", "of plain int8", "of it tuned"), lines)


if __name__ == "__main__":
    main()
