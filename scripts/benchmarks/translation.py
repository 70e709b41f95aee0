r"""How fast translation packages write, next to CTranslate2's int8, which is what there is to beat on a CPU.

    python scripts/benchmarks/translation.py --speed-shape --out build/benchmarks     # OPUS-MT's shape
    python scripts/benchmarks/translation.py convert build/benchmarks/opus-shape build/benchmarks/opus-ct2
    python scripts/benchmarks/translation.py plain build/benchmarks/opus-shape build/mine/package build/plain
    python scripts/benchmarks/translation.py heads build/benchmarks/opus-shape build/mine/package build/heads
    python scripts/benchmarks/translation.py tune build/dense/package build/heads     # settings of each side
    python scripts/benchmarks/translation.py --package dense-int8=build/dense/package \
        --package candidate=build/heads --ctranslate2 build/benchmarks/opus-ct2

Every side has a process of its own, with the same number of threads, and gets the same source ids. It writes
greedily, exactly as many tokens as the source has, whether or not it would have ended sooner. In each round
every side is timed once at every length, the sides of a length one after the other in a random order. A round
has new processes: one is up to a tenth faster than another of the same side for as long as it lives. A ratio
is the geometric mean over rounds of that of a round's medians, with the bootstrap over rounds. Threads do not
spin while they wait (``--spinning`` lets them, on all sides) but as ``tune`` has found best for a package at
a number of threads, by the search of stage sessions. The time to the first token is, for CTranslate2, that of
a call that writes only one. The host should do nothing else meanwhile; ``--append`` adds to the last table,
so that it can be made in pieces. Prints tables, writes JSON.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgelr.device.host import describe_host, host_state
from edgelr.metrics.bootstrap import interval
from edgelr.metrics.scores import mean_scores
from edgelr.progress import Progress
from edgelr.report.markdown import table
from edgelr.timing.process import PATIENCE_SECONDS, Worker, ask, running_worker

CTRANSLATE2 = "ctranslate2-int8"
BASES = (CTRANSLATE2, "dense-int8")  # what the others are held against
WORKER = (sys.executable, "-P", str(Path(__file__).with_name("translation_worker.py")))
LENGTHS = (8, 20, 60)
FIRST_ID = 8  # those before are special in every vocabulary there is
WARM_CALLS = 3
SHAPES = ((0.5, "int8"), (0.5, "int4"), (0.35, "int4"))  # kept share and precision of the vocabulary
SETTLE_S = 0.5  # after a block, until threads that spin have given up


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is timed: a package, or what CTranslate2 converted."""

    name: str
    kind: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How it is timed."""

    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    rounds: int
    seconds: float
    vocabulary: int
    eos: int
    spinning: bool
    beams: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One side at one length; milliseconds are of one sentence, of the first token those of the batch.

    ``ratios`` are to the sides of ``BASES``, each with its 95 % interval.
    """

    threads: int
    tokens: int
    batch: int
    side: str
    tokens_per_s: float
    p50_ms: float
    p90_ms: float
    first_token_ms: float
    calls: int
    ratios: dict[str, tuple[float, float, float]]
    round_tokens_per_s: list[float]


@dataclass(frozen=True, kw_only=True)
class Process:
    """The last process of one side: what it holds and what it took to start."""

    threads: int
    side: str
    compute_type: str | None
    load_ms: float
    peak_bytes: int
    model_bytes: int
    folder_bytes: int


Shape = tuple[int, int]
"""Tokens and sentences of a call."""
Times = dict[tuple[str, Shape], list[dict[str, list[float]]]]
"""Side and shape -> the milliseconds of every call, round by round."""


@click.group(invoke_without_command=True)
@click.option("--package", "packages", multiple=True, metavar="NAME=FOLDER", help="Can be given repeatedly.")
@click.option("--ctranslate2", type=click.Path(path_type=Path, exists=True), help="As `convert` writes it.")
@click.option("--threads", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option("--length", "lengths", type=int, multiple=True, default=LENGTHS, show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=(1,), help="Sentences a call.")
@click.option("--beams", default=1, show_default=True, help="More than one: beam search, on all sides.")
@click.option("--rounds", default=15, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Of a block; it has at least one call.")
@click.option("--vocabulary", default=8000, show_default=True, help="Source ids are below this.")
@click.option("--eos", default=0, show_default=True, help="The id that ends a source.")
@click.option("--spinning", is_flag=True, help="Threads spin while they wait, on all sides.")
@click.option("--speed-shape", is_flag=True, help="Only write OUT/opus-shape, a model with random weights.")
@click.option("--append", is_flag=True, help="To what OUT/translation.json holds.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.pass_context
def main(  # noqa: ANN201
    context: click.Context,
    out: Path,
    packages: tuple[str, ...],
    append: bool,
    **given: Any,  # noqa: ANN401
):
    """Time every side, print the tables, write OUT/translation.json."""
    if context.invoked_subcommand is not None:
        return
    if given.pop("speed_shape"):
        import translation_models

        translation_models.write_opus_shape(out / "opus-shape")
        for keep, vocabulary in SHAPES:
            print(translation_models.write_recipe(out / "opus-shape", keep, vocabulary))
        print(f"written to {out / 'opus-shape'}")
        return
    sides, threads = sides_of(packages, given.pop("ctranslate2")), given.pop("threads")
    settings = Settings(**given)
    rows, processes = [], []
    for count in threads:
        found, started = measure(sides, count, settings, Progress())
        rows += found
        processes += started
    run = {
        "host": {**describe_host(), **host_state()},
        "sides": {side.name: str(side.folder) for side in sides},
        "settings": asdict(settings),
        "rows": [asdict(row) for row in rows],
        "processes": [asdict(process) for process in processes],
    }
    path = out / "translation.json"
    runs = [*(json.loads(path.read_text(encoding="utf-8"))["runs"] if append else []), run]
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"runs": runs}, indent=1) + "\n", encoding="utf-8")
    rows = [Row(**row) for each in runs for row in each["rows"]]
    processes = [Process(**process) for process in runs[-1]["processes"]]
    print(table_of_speeds(rows), table_of_processes(processes), f"written to {path}", sep="\n\n")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def convert(folder: Path, out: Path) -> None:
    """Convert the Hugging Face FOLDER to CTranslate2's int8 in OUT."""
    import translation_models

    translation_models.convert(folder, out)
    print(f"written to {out}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("package", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def plain(folder: Path, package: Path, out: Path) -> None:
    """Export the Hugging Face FOLDER with torch and ONNX Runtime alone, to a package like PACKAGE in OUT."""
    import translation_models

    translation_models.write_plain_int8(folder, package, out)
    print(f"written to {out}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("package", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def heads(folder: Path, package: Path, out: Path) -> None:
    """A package of FOLDER's shape with smaller heads and two factors elsewhere, like PACKAGE, in OUT."""
    import translation_models

    translation_models.write_small_heads(folder, package, out)
    print(f"written to {out}")


@main.command()
@click.argument("packages", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--threads", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option("--length", "lengths", type=int, multiple=True, default=LENGTHS, show_default=True)
@click.option("--seconds", default=12.0, show_default=True, help="Measuring time a package and device.")
def tune(
    packages: tuple[Path, ...], threads: tuple[int, ...], lengths: tuple[int, ...], seconds: float
) -> None:
    """Write the session settings into PACKAGES that are best at each number of threads."""
    import translation_models

    for folder in packages:
        print(folder, translation_models.tune(folder, threads, lengths, seconds))


def sides_of(packages: Sequence[str], ctranslate2: Path | None) -> list[Side]:
    """What the command line names."""
    sides = []
    for text in packages:
        name, _, folder = text.partition("=")
        if not folder or name in {CTRANSLATE2, *(side.name for side in sides)}:
            raise click.UsageError(f"--package: {text!r} is no NAME=FOLDER with a name of its own")
        sides.append(Side(name=name, kind="edgelr", folder=Path(folder)))
    if ctranslate2 is not None:
        sides.append(Side(name=CTRANSLATE2, kind="ctranslate2", folder=ctranslate2))
    if not sides:
        raise click.UsageError("nothing to time: give --package or --ctranslate2")
    return sides


def measure(
    sides: Sequence[Side], threads: int, settings: Settings, progress: Progress
) -> tuple[list[Row], list[Process]]:
    """Every side at every length with one number of threads."""
    shapes = [(tokens, batch) for tokens in settings.lengths for batch in settings.batches]
    times: Times = {(side.name, shape): [] for side in sides for shape in shapes}
    order = random.Random(threads)
    label = f"{threads} threads"
    with progress.bar(label, settings.rounds * len(times)) as advance:
        for _ in range(settings.rounds):
            processes = measure_round(sides, shapes, threads, settings, times, order, advance)
    return rows_of(sides, shapes, threads, times), processes


def measure_round(
    sides: Sequence[Side],
    shapes: Sequence[Shape],
    threads: int,
    settings: Settings,
    times: Times,
    order: random.Random,
    advance: Callable[[], None],
) -> list[Process]:
    """Every side at every length once, in new processes; ``times`` gets the calls."""
    label = f"{threads} threads"
    with ExitStack() as stack:
        workers = {
            side.name: stack.enter_context(running_worker(f"{side.name}, {label}", WORKER)) for side in sides
        }
        opened = {side.name: open_side(workers[side.name], side, threads, settings) for side in sides}
        known = [reply["vocabulary"] for reply in opened.values() if reply["vocabulary"] is not None]
        ids = {shape: source_ids(shape, min([settings.vocabulary, *known]), settings.eos) for shape in shapes}
        for name, shape in times:
            time_block(workers[name], ids[shape], shape, settings.beams, 0.0, calls=WARM_CALLS)
        for shape in order.sample(shapes, len(shapes)):
            for side in order.sample(list(sides), len(sides)):
                block = time_block(workers[side.name], ids[shape], shape, settings.beams, settings.seconds)
                times[side.name, shape].append(block)
                time.sleep(SETTLE_S if settings.spinning else 0.0)
                advance()
        return [process_of(workers[name], name, threads, reply) for name, reply in opened.items()]


def open_side(worker: Worker, side: Side, threads: int, settings: Settings) -> dict[str, Any]:
    """Let the worker open its side."""
    what = {"kind": side.kind, "folder": str(side.folder), "threads": threads, "spinning": settings.spinning}
    return ask(worker, {"do": "open", **what}, seconds=PATIENCE_SECONDS)


def time_block(  # noqa: ANN201 - JSON
    worker: Worker, ids: list[list[int]], shape: Shape, beams: int, seconds: float, calls: int = 1
):
    """Calls of one side at one length."""
    request = {"do": "time", "ids": ids, "new_tokens": shape[0], "beams": beams}
    request |= {"seconds": seconds, "calls": calls}
    return ask(worker, request, seconds=PATIENCE_SECONDS + seconds)


def source_ids(shape: Shape, vocabulary: int, eos: int) -> list[list[int]]:
    """Sources of a length, the token that ends them included: the same for every side."""
    tokens, batch = shape
    draw = random.Random(tokens)
    return [[*(draw.randrange(FIRST_ID, vocabulary) for _ in range(tokens - 1)), eos] for _ in range(batch)]


def process_of(worker: Worker, name: str, threads: int, opened: dict[str, Any]) -> Process:
    """What the worker has needed by now."""
    peak = ask(worker, {"do": "memory"}, seconds=PATIENCE_SECONDS)["peak_bytes"]
    found = {key: opened[key] for key in ("compute_type", "load_ms", "model_bytes", "folder_bytes")}
    return Process(threads=threads, side=name, peak_bytes=peak, **found)


def rows_of(sides: Sequence[Side], shapes: Sequence[Shape], threads: int, times: Times) -> list[Row]:
    """The figures of every side at every length."""
    rows = []
    for shape in shapes:
        tokens, batch = shape
        speeds = {
            side.name: [
                1e3 * tokens * batch / statistics.median(block["total_ms"])
                for block in times[side.name, shape]
            ]
            for side in sides
        }
        for name, found in speeds.items():
            calls = np.concatenate([block["total_ms"] for block in times[name, shape]]) / batch
            firsts = np.concatenate([block["first_ms"] for block in times[name, shape]])
            ratios = {base: ratio_of(found, speeds[base]) for base in BASES if base in speeds}
            rows.append(
                Row(
                    threads=threads,
                    tokens=tokens,
                    batch=batch,
                    side=name,
                    tokens_per_s=1e3 * tokens / float(np.median(calls)),
                    p50_ms=float(np.median(calls)),
                    p90_ms=float(np.percentile(calls, 90)),
                    first_token_ms=float(np.median(firsts)),
                    calls=len(calls),
                    ratios=ratios,
                    round_tokens_per_s=found,
                )
            )
    return rows


def ratio_of(speeds: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """How many times as fast: the geometric mean over rounds, and its 95 % interval."""
    value, low, high = interval(mean_scores(np.log(np.array(speeds) / np.array(others))))
    return math.exp(value), math.exp(low), math.exp(high)


def table_of_speeds(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    columns = ("threads", "tokens", "batch", "side", "tokens/s", "ms p50", "ms p90", "first token ms")
    cells = []
    for row in rows:
        told = (
            "{:.2f} [{:.2f}, {:.2f}]".format(*row.ratios[base]) if base in row.ratios else "-"
            for base in BASES
        )
        times = (f"{value:.2f}" for value in (row.p50_ms, row.p90_ms, row.first_token_ms))
        cells.append((row.threads, row.tokens, row.batch, row.side, f"{row.tokens_per_s:.0f}", *times, *told))
    return table((*columns, *(f"× {base}" for base in BASES)), cells)


def table_of_processes(processes: Sequence[Process]) -> str:
    """Memory and sizes as a Markdown table."""
    cells = []
    for each in processes:
        sizes = (f"{count / 1e6:.1f}" for count in (each.peak_bytes, each.model_bytes, each.folder_bytes))
        cells.append((each.threads, each.side, f"{each.load_ms:.0f}", *sizes))
    return table(("threads", "side", "load ms", "peak MB", "model MB", "folder MB"), cells)


if __name__ == "__main__":
    main()
