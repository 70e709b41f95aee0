r"""How fast speech packages transcribe, and how well, next to CTranslate2's int8 (what faster-whisper runs).

    python scripts/benchmarks/speech.py shape                  # whisper-base's shape, random weights: speed
    python scripts/benchmarks/speech.py package build/spoken-commands/package recipes/spoken-commands/teacher

Every side has a process of its own, with the same number of threads. In each round every side is timed once,
one after the other in a random order. Ratios are geometric means over rounds of those of a round, with the
95 % bootstrap interval over rounds; above 1 is faster than the other side. Threads do not spin while they
wait (``--spinning`` lets them, on all sides). The host should do nothing else meanwhile. Prints tables,
writes JSON.

CTranslate2 makes no features, so its process makes them with a package's ``features.onnx`` (where no package
has the checkpoint's window, with transformers); times are given with that and without it, on both sides. Its
encoder does not make the keys and values of the decoder's cross attention, ours does: that favours
CTranslate2 in what is said of the encoder alone. It also reads less than the checkpoint's window, if it is
given fewer frames. Such a side has its window in its name; limits are against CTranslate2 as it is used,
with the whole window.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgelr.device.host import describe_host, host_state
from edgelr.errors import EdgelrError
from edgelr.examples import Utterance
from edgelr.kinds.outputs import dense_texts
from edgelr.metrics.bootstrap import difference, interval
from edgelr.metrics.scores import Scores, mean_scores
from edgelr.metrics.speech import speech_scores
from edgelr.progress import Progress
from edgelr.report.tables import table
from edgelr.runtime.audio import SAMPLE_RATE, seconds_of
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import open_package
from edgelr.timing.process import PATIENCE_SECONDS, Worker, ask, running_worker

CTRANSLATE2 = "ctranslate2-int8"
DENSE, DENSE_INT8, CANDIDATE = "dense-fp32", "dense-int8", "package"
WORKER = (sys.executable, "-P", str(Path(__file__).with_name("speech_worker.py")))
SETTLE_S = 0.5  # after a block, until threads that spin have given up
WHOLE, SHORT = 30, 5  # seconds of sound to time
PARTS = ("features_ms", "encoder_ms", "decoder_ms")
FIGURES: dict[str, tuple[str, ...]] = {
    "encoder": ("encoder_ms",),
    "features + encoder": ("features_ms", "encoder_ms"),
    "utterance without features": ("encoder_ms", "decoder_ms"),
    "utterance": PARTS,
}
ENCODER_LIMIT, UTTERANCE_LIMIT, SHORT_LIMIT = 2.0, 1.6, 6.0
WER_LIMIT, BYTES_LIMIT, ENCODER_SHARE_LIMIT = 0.3, 0.15, 0.5
LITEASR = (0.59, 0.1)  # Kamahori et al. (2025): share of Whisper large-v3's encoder, rise of WER; untuned
Ratio = tuple[float, float, float]
"""Value, and the ends of its 95 % interval."""
Calls = dict[str, list[float]]
"""Name of a figure -> milliseconds, call by call."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is timed: a package, or what CTranslate2 converted.

    Attributes:
        name: In tables.
        folder: Of the package or the conversion.
        window: Samples that it reads at once.
        like: Of CTranslate2: the package that it has its tokenizer and its prompt from.
        features: Likewise: the package whose graph makes its features; transformers where there is none.
        checkpoint: Likewise: what it was converted from.
    """

    name: str
    folder: Path
    window: int
    like: Path | None = None
    features: Path | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How it is timed."""

    threads: tuple[int, ...]
    rounds: int
    spinning: bool
    seconds: float = 0.0
    tokens: int = 0
    utterances: int = 0


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One of the numbers to reach; where nothing could be measured, its value is None."""

    goal: str
    side: str
    threads: int | None
    value: float | None
    ci95: tuple[float, float] | None
    limit: str
    reached: bool


@click.group()
def main() -> None:
    """Speech packages next to CTranslate2's int8."""


def measuring(command: Callable[..., None]) -> Callable[..., None]:
    """The options that both commands have."""
    folder = click.Path(path_type=Path)
    for option in (
        click.option("--out", type=folder, default=Path("build/benchmarks"), show_default=True),
        click.option("--spinning", is_flag=True, help="Threads spin while they wait, on all sides."),
        click.option("--threads", type=int, multiple=True, default=(1, 2), show_default=True),
    ):
        command = option(command)
    return command


# --- one shape, random weights ----------------------------------------------------------------------------


@main.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Of a block; it has at least one call.")
@click.option("--tokens", default=25, show_default=True, help="That every side writes for every sound.")
@click.option("--keep", default=0.5, show_default=True, help="Share of the parameters.")
@click.option("--scheme", default="int8-dynamic", show_default=True, help="As of quantize.scheme.")
@click.option("--vocabulary", type=click.Choice(["int8", "int4"]), help="As of quantize.vocabulary.")
@click.option(
    "--package", "packages", multiple=True, metavar="NAME=FOLDER", help="More sides, made elsewhere."
)
@click.option("--tiny", is_flag=True, help="A shape of no interest, to see whether everything runs.")
@click.option("--make", is_flag=True, help="Only make the models; what is there is used again.")
@measuring
def shape(out: Path, tiny: bool, make: bool, packages: tuple[str, ...], **given: Any) -> None:  # noqa: ANN401
    """Time whisper-base's shape: the encoder, whole utterances, and five seconds in a window of ten."""
    recipe = {name: given.pop(name) for name in ("keep", "scheme", "vocabulary")}
    sides = shape_sides(out / ("speech-tiny" if tiny else "speech-shape"), tiny, packages, **recipe)
    if make:
        print("\n".join(f"{side.name}: {side.folder}" for side in sides))
        return
    settings = Settings(**given)
    rows, processes, goals = [], [], []
    for threads in settings.threads:
        times, opened = measure_shape(sides, threads, settings, Progress())
        found = shape_rows(times, threads)
        rows += found
        processes += opened
        goals += shape_goals(found, {side.name: side.window for side in sides})
    print(table_of_shape(rows), table_of_processes(processes), table_of_goals(goals), sep="\n\n")
    write(out / "speech-shape.json", sides, settings, rows=rows, processes=processes, goals=goals)


def shape_sides(
    folder: Path, tiny: bool, packages: Sequence[str], keep: float, scheme: str, vocabulary: str | None
) -> list[Side]:
    """Make what is to be timed, unless it is there."""
    import speech_models as models

    chosen = models.TINY if tiny else models.Shape()
    checkpoint, converted = folder / models.MODEL, folder / CTRANSLATE2
    if not (checkpoint / "model.safetensors").is_file():
        models.write_shape(checkpoint, chosen)
    if not (converted / "model.bin").is_file():
        models.convert(checkpoint, converted)
    label = "-".join(
        [f"kept-{keep:.2f}", *([] if scheme == "int8-dynamic" else [scheme]), *filter(None, [vocabulary])]
    )
    variant = models.Variant(name=label, keep=keep, scheme=scheme, vocabulary=vocabulary)
    variants = [variant, replace(variant, name=f"{label}-10s", window_s=10)]
    made = models.make_packages(folder, chosen, variants, Progress())
    like, short = made[DENSE_INT8], made[variants[1].name]
    whole = Side(
        name=CTRANSLATE2,
        folder=converted,
        window=window_of(like),
        like=like,
        features=like,
        checkpoint=checkpoint,
    )
    made |= dict(_named(text, made) for text in packages)
    cut = replace(whole, name=f"{CTRANSLATE2}-10s", window=window_of(short), features=short)
    return [
        whole,
        cut,
        *(Side(name=name, folder=path, window=window_of(path)) for name, path in made.items()),
    ]


def _named(text: str, taken: Mapping[str, Path]) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if not folder or name in taken or name.startswith(CTRANSLATE2):
        raise click.UsageError(f"--package: {text!r} is no NAME=FOLDER with a name of its own")
    return name, Path(folder)


def window_of(package: Path) -> int:
    """Samples that a package reads at once."""
    return int(open_package(package).settings["window_samples"])


def measure_shape(
    sides: Sequence[Side], threads: int, settings: Settings, progress: Progress
) -> tuple[dict[tuple[int, str], list[Calls]], list[dict[str, Any]]]:
    """Every side with every sound that it reads at once; the dense ones only with the long one."""
    cases = [
        (audio_s, side.name)
        for audio_s in (WHOLE, SHORT)
        for side in sides
        if audio_s * SAMPLE_RATE <= side.window
        and not (audio_s == SHORT and side.name in (DENSE, DENSE_INT8))
    ]
    times: dict[tuple[int, str], list[Calls]] = {case: [] for case in cases}
    order, label = random.Random(threads), f"{threads} threads"
    with ExitStack() as stack, progress.bar(label, settings.rounds * len(cases)) as advance:
        workers, opened = open_sides(stack, sides, threads, settings.spinning)
        for _ in range(settings.rounds):
            for audio_s, name in order.sample(cases, len(cases)):
                request = {"do": "time", "audio_s": audio_s, "new_tokens": settings.tokens}
                request |= {"seconds": settings.seconds}
                block = ask(workers[name], request, seconds=PATIENCE_SECONDS + settings.seconds)
                times[audio_s, name].append(block)
                time.sleep(SETTLE_S if settings.spinning else 0.0)
                advance()
        processes = processes_of(workers, opened, threads)
    return times, processes


def shape_rows(times: Mapping[tuple[int, str], list[Calls]], threads: int) -> list[dict[str, Any]]:
    """The figures of every side with every sound."""
    rows = []
    for (audio_s, name), blocks in times.items():
        found = {figure: _round_ms(blocks, parts) for figure, parts in FIGURES.items()}
        other = times.get((audio_s, CTRANSLATE2))
        ratios = {
            figure: ratio_of(found[figure], _round_ms(other, parts)) if other else None
            for figure, parts in FIGURES.items()
        }
        rows.append(
            {
                "threads": threads,
                "audio_s": audio_s,
                "side": name,
                **{
                    part: float(np.median(np.concatenate([block[part] for block in blocks])))
                    for part in PARTS
                },
                "total_ms": float(np.median(np.concatenate([_sums(block, PARTS) for block in blocks]))),
                "calls": sum(len(block[PARTS[0]]) for block in blocks),
                "ratios": ratios,
                "round_ms": found,
            }
        )
    return rows


def _sums(block: Calls, parts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    summed: np.ndarray[Any, np.dtype[np.float64]] = np.array([block[part] for part in parts]).sum(axis=0)
    return summed


def _round_ms(blocks: Sequence[Calls], parts: Sequence[str]) -> list[float]:
    return [float(np.median(_sums(block, parts))) for block in blocks]


def shape_goals(rows: Sequence[Mapping[str, Any]], windows: Mapping[str, int]) -> list[Goal]:
    """What the packages that are not dense were to reach."""
    goals = []
    for row in rows:
        name, audio_s = row["side"], row["audio_s"]
        if name in (DENSE, DENSE_INT8) or name.startswith(CTRANSLATE2):
            continue
        if audio_s == WHOLE:
            wanted = [
                ("encoder, 30 s", "encoder", ENCODER_LIMIT),
                ("utterance, 30 s", "utterance", UTTERANCE_LIMIT),
            ]
        elif windows[name] < WHOLE * SAMPLE_RATE:
            wanted = [("utterance, 5 s, short window", "utterance", SHORT_LIMIT)]
        else:
            continue
        for goal, figure, limit in wanted:
            goals.append(at_least(goal, name, row["threads"], row["ratios"][figure], limit))
    return goals


# --- one package, its own examples ------------------------------------------------------------------------


@main.command()
@click.argument("package", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("teacher", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--dense-int8",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A package; that of the same build where the report tells.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="report.json of the build; the one beside PACKAGE.",
)
@click.option("--rounds", default=15, show_default=True)
@click.option("--utterances", default=20, show_default=True, help="Of a round.")
@measuring
def package(
    package: Path,
    teacher: Path,
    dense_int8: Path | None,
    report: Path | None,
    out: Path,
    **given: Any,  # noqa: ANN401
) -> None:
    """Score PACKAGE and time it, next to CTranslate2's int8 of TEACHER, the checkpoint it was made of."""
    settings = Settings(**given)
    beside = package.resolve().parent / "report.json"
    path = report or (beside if beside.is_file() else None)
    document = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    if dense_int8 is None and path is not None:
        dense_int8 = dense_of_build(path, document)
    sides = package_sides(package, teacher, dense_int8, out)
    rows, processes, texts = [], [], dict[str, list[str]]()
    for threads in settings.threads:
        progress = Progress()
        times, opened, said = measure_package(sides, package, threads, settings, progress, texts=not texts)
        texts = texts or said
        rows += package_rows(times, threads)
        processes += opened
    scores = word_errors(package, texts)
    accuracy = accuracy_rows(scores, texts)
    goals = package_goals(accuracy, rows, processes, document)
    claims = liteasr_rows(teacher, document, scores)
    goals += [claims[1]["goal"]] if len(claims) > 1 else []
    tables = (table_of_errors(accuracy), table_of_speeds(rows), table_of_processes(processes))
    print(*tables, table_of_claims(claims), table_of_goals(goals), sep="\n\n")
    claims = [{name: value for name, value in claim.items() if name != "goal"} for claim in claims]
    found = {"accuracy": accuracy, "rows": rows, "processes": processes, "liteasr": claims, "goals": goals}
    write(out / "speech-package.json", sides, settings, **found, texts=texts)


def dense_of_build(report: Path, document: Mapping[str, Any]) -> Path | None:
    """The dense int8 package of the build that wrote a report, in its store."""
    store: Path = report.resolve().parent.parent / ".store" / "quantize"
    for stage in document.get("stages", ()):
        folder = store / str(stage["key"])
        if stage["stage"] != "quantize" or not folder.is_dir():
            continue
        try:
            found = open_package(folder)
        except EdgelrError:
            continue
        if found.precision == "int8-dynamic" and found.name.endswith("-dense"):
            return folder
    return None


def package_sides(package: Path, teacher: Path, dense_int8: Path | None, out: Path) -> list[Side]:
    """What is to be timed; the teacher is converted anew."""
    import speech_models as models

    converted = out / "speech-ctranslate2"
    converted.parent.mkdir(parents=True, exist_ok=True)
    models.convert(teacher, converted)
    window = models.window_samples(teacher)
    known = {path: window_of(path) for path in (package, dense_int8) if path is not None}
    featured = {samples: path for path, samples in known.items()}
    sides = [Side(name=CANDIDATE, folder=package, window=known[package])]
    if dense_int8 is not None:
        sides.append(Side(name=DENSE_INT8, folder=dense_int8, window=known[dense_int8]))
    other = Side(
        name=CTRANSLATE2,
        folder=converted,
        window=window,
        like=package,
        features=featured.get(window),
        checkpoint=teacher,
    )
    sides.append(other)
    if known[package] < window:
        name = f"{CTRANSLATE2}-{known[package] / SAMPLE_RATE:g}s"
        sides.append(replace(other, name=name, window=known[package], features=package))
    return sides


def measure_package(
    sides: Sequence[Side], package: Path, threads: int, settings: Settings, progress: Progress, texts: bool
) -> tuple[dict[str, list[tuple[float, Calls]]], list[dict[str, Any]], dict[str, list[str]]]:
    """Every side on the package's examples: its texts, and seconds of sound and times of every round."""
    paths = [str((package / example.audio).resolve()) for example in folder_examples(package, Utterance)]
    lengths = {path: seconds_of(Path(path)) for path in paths}
    order, label = random.Random(threads), f"{threads} threads"
    chosen = random.Random(0).sample(paths, len(paths))
    count, size = settings.rounds * settings.utterances, settings.utterances
    endless = [chosen[number % len(chosen)] for number in range(count)]
    times: dict[str, list[tuple[float, Calls]]] = {side.name: [] for side in sides}
    said = {}
    scored = len(sides) if texts else 0
    with ExitStack() as stack, progress.bar(label, settings.rounds * len(sides) + scored) as advance:
        workers, opened = open_sides(stack, sides, threads, settings.spinning)
        for side in sides[:scored]:
            request = {"do": "transcribe", "paths": paths, "silence": True}
            patience = PATIENCE_SECONDS + sum(lengths.values())
            said[side.name] = ask(workers[side.name], request, seconds=patience)["texts"]
            advance()
        for start in range(0, count, size):
            block = endless[start : start + size]
            for side in order.sample(list(sides), len(sides)):
                request = {"do": "transcribe", "paths": block, "silence": False}
                found = ask(workers[side.name], request, seconds=PATIENCE_SECONDS)
                times[side.name].append((sum(lengths[path] for path in block), found))
                time.sleep(SETTLE_S if settings.spinning else 0.0)
                advance()
        processes = processes_of(workers, opened, threads)
    return times, processes, said


def package_rows(times: Mapping[str, list[tuple[float, Calls]]], threads: int) -> list[dict[str, Any]]:
    """Real-time factors: seconds of computing for a second of sound."""
    totals = {name: [sum(calls["total_ms"]) / 1e3 for _, calls in blocks] for name, blocks in times.items()}
    bare = {
        name: [(sum(calls["total_ms"]) - sum(calls["features_ms"])) / 1e3 for _, calls in blocks]
        for name, blocks in times.items()
    }
    rows = []
    for name, blocks in times.items():
        seconds = sum(length for length, _ in blocks)
        calls = np.concatenate([found["total_ms"] for _, found in blocks])
        rows.append(
            {
                "threads": threads,
                "side": name,
                "rtf": sum(totals[name]) / seconds,
                "rtf_without_features": sum(bare[name]) / seconds,
                "p50_ms": float(np.median(calls)),
                "p90_ms": float(np.percentile(calls, 90)),
                "features_ms": statistics.median(ms for _, found in blocks for ms in found["features_ms"]),
                "calls": len(calls),
                "ratios": {
                    other: {
                        "with features": ratio_of(totals[name], totals[other]),
                        "without features": ratio_of(bare[name], bare[other]),
                    }
                    for other in times
                },
            }
        )
    return rows


def word_errors(package: Path, texts: Mapping[str, list[str]]) -> dict[str, Scores]:
    """Word error rates, the dense model's by the transcripts that the package has of it."""
    references = [example.text for example in folder_examples(package, Utterance)]
    dense = dense_texts(open_package(package), len(references))
    return {
        name: speech_scores(outputs, references, dense)["wer"]
        for name, outputs in {DENSE: dense, **texts}.items()
    }


def accuracy_rows(scores: Mapping[str, Scores], texts: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Every side's word error rate with intervals, and how far it is from the dense model, in points."""
    return [
        {
            "side": name,
            "wer": interval(found),
            "to_dense": difference(found, scores[DENSE]),
            "to_ctranslate2": difference(found, scores[CTRANSLATE2]),
            "empty": sum(not text for text in texts.get(name, ())),
            "examples": found.examples,
        }
        for name, found in scores.items()
    ]


def liteasr_rows(
    teacher: Path, document: Mapping[str, Any], scores: Mapping[str, Scores]
) -> list[dict[str, Any]]:
    """LiteASR's claim, and ours where a report tells the rank of every layer."""
    rows = [
        {
            "what": "LiteASR, Whisper large-v3, untuned (its own claim)",
            "share": LITEASR[0],
            "rise": LITEASR[1],
        }
    ]
    if document.get("layers"):
        import speech_models as models

        share = models.encoder_share(teacher, document["layers"])
        rise = difference(scores[CANDIDATE], scores[DENSE])
        tuned = "tuned" if document["recipe"].get("finetune") else "untuned"
        goal = Goal(
            goal="encoder parameters, and rise of WER",
            side=CANDIDATE,
            threads=None,
            value=share,
            ci95=None,
            limit=f"≤ {ENCODER_SHARE_LIMIT} at ≤ +{WER_LIMIT}",
            reached=share <= ENCODER_SHARE_LIMIT and rise[0] <= WER_LIMIT,
        )
        rows.append(
            {"what": f"{CANDIDATE}, {tuned}", "share": share, "rise": rise[0], "ci95": rise[1:], "goal": goal}
        )
    return rows


def package_goals(
    accuracy: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    processes: Sequence[Mapping[str, Any]],
    document: Mapping[str, Any],
) -> list[Goal]:
    """What the recipe was to reach."""
    rise = next(row["to_dense"] for row in accuracy if row["side"] == CANDIDATE)
    shipped = next(each["shipped_bytes"] for each in processes if each["side"] == CANDIDATE)
    dense = document.get("sizes", {}).get(DENSE)
    share = None if dense is None else shipped / dense
    goals = [
        at_most("WER less the dense model's", CANDIDATE, rise, WER_LIMIT),
        at_most(f"bytes / those of {DENSE}", CANDIDATE, None if share is None else (share,) * 3, BYTES_LIMIT),
    ]
    for row in rows:
        if row["side"] == CANDIDATE:
            for other in (DENSE_INT8, CTRANSLATE2):
                for how in ("with features", "without features"):
                    ratio = row["ratios"].get(other, {}).get(how)
                    goals.append(at_least(f"speed / {other}, {how}", CANDIDATE, row["threads"], ratio, 1.0))
    return goals


# --- processes and figures of both ------------------------------------------------------------------------


def open_sides(
    stack: ExitStack, sides: Sequence[Side], threads: int, spinning: bool
) -> tuple[dict[str, Worker], dict[str, dict[str, Any]]]:
    """A process for every side, and what it says when it is opened."""
    workers, opened = {}, {}
    for side in sides:
        workers[side.name] = stack.enter_context(running_worker(f"{side.name}, {threads} threads", WORKER))
        request: dict[str, Any] = {"do": "open", "kind": "edgelr", "folder": str(side.folder)}
        if side.like is not None:
            request |= {"kind": "ctranslate2", "like": str(side.like), "checkpoint": str(side.checkpoint)}
            request |= {"window": side.window, "features": side.features and str(side.features)}
        request |= {"threads": threads, "spinning": spinning}
        opened[side.name] = ask(workers[side.name], request, seconds=PATIENCE_SECONDS)
    return workers, opened


def processes_of(
    workers: Mapping[str, Worker], opened: Mapping[str, Mapping[str, Any]], threads: int
) -> list[dict[str, Any]]:
    """What every process holds, has taken to start, and has needed by now."""
    peaks = {
        name: ask(worker, {"do": "memory"}, seconds=PATIENCE_SECONDS) for name, worker in workers.items()
    }
    return [{"threads": threads, "side": name, **opened[name], **peaks[name]} for name in workers]


def ratio_of(spent: Sequence[float], others: Sequence[float]) -> Ratio:
    """How many times as fast as another side, round by round."""
    value, low, high = interval(mean_scores(np.log(np.array(others) / np.array(spent))))
    return math.exp(value), math.exp(low), math.exp(high)


def at_least(goal: str, side: str, threads: int | None, found: Ratio | None, limit: float) -> Goal:
    """A goal that is reached from a limit on; at 1.0 it has to be exceeded."""
    reached = found is not None and (found[0] > limit if limit == 1.0 else found[0] >= limit)
    value, ci95 = (None, None) if found is None else (found[0], found[1:])
    sign = ">" if limit == 1.0 else "≥"
    return Goal(
        goal=goal,
        side=side,
        threads=threads,
        value=value,
        ci95=ci95,
        limit=f"{sign} {limit:g}",
        reached=reached,
    )


def at_most(goal: str, side: str, found: Ratio | None, limit: float) -> Goal:
    """A goal that is reached up to a limit."""
    value, ci95 = (None, None) if found is None else (found[0], found[1:])
    reached = value is not None and value <= limit
    return Goal(
        goal=goal, side=side, threads=None, value=value, ci95=ci95, limit=f"≤ {limit:g}", reached=reached
    )


# --- tables -----------------------------------------------------------------------------------------------


def table_of_shape(rows: Sequence[Mapping[str, Any]]) -> str:
    """Times of the parts in milliseconds, medians of all calls, and how many times as fast as CTranslate2."""
    columns = ("threads", "audio s", "side", "features ms", "encoder ms", "decoder ms", "whole ms")
    cells = [
        (
            *(row[name] for name in ("threads", "audio_s", "side")),
            *(f"{row[name]:.1f}" for name in (*PARTS, "total_ms")),
            *(_with_interval(row["ratios"][figure]) for figure in FIGURES),
        )
        for row in rows
    ]
    return table((*columns, *(f"× {CTRANSLATE2}: {figure}" for figure in FIGURES)), cells)


def table_of_speeds(rows: Sequence[Mapping[str, Any]]) -> str:
    """Real-time factors, and how many times as fast as the baselines."""
    others = [name for name in (DENSE_INT8, CTRANSLATE2) if name in rows[0]["ratios"]]
    shown = [(other, how) for other in others for how in ("with features", "without features")]
    columns = ("threads", "side", "RTF", "RTF without features", "ms p50", "ms p90", "features ms")
    cells = [
        (
            row["threads"],
            row["side"],
            *(f"{row[name]:.4f}" for name in ("rtf", "rtf_without_features")),
            *(f"{row[name]:.2f}" for name in ("p50_ms", "p90_ms", "features_ms")),
            *(_with_interval(row["ratios"][other][how]) for other, how in shown),
        )
        for row in rows
    ]
    return table((*columns, *(f"× {other}, {how}" for other, how in shown)), cells)


def table_of_errors(rows: Sequence[Mapping[str, Any]]) -> str:
    """Word error rates in percent."""
    columns = (
        "side",
        "WER % [95 %]",
        "less dense-fp32, paired",
        f"less {CTRANSLATE2}, paired",
        "empty",
        "examples",
    )
    cells = [
        (
            row["side"],
            _with_interval(row["wer"]),
            *(_with_interval(row[name], sign="+") for name in ("to_dense", "to_ctranslate2")),
            row["empty"],
            row["examples"],
        )
        for row in rows
    ]
    return table(columns, cells)


def table_of_claims(rows: Sequence[Mapping[str, Any]]) -> str:
    """LiteASR's claim and ours."""
    cells = [
        (
            row["what"],
            f"{row['share']:.3f}",
            f"{row['rise']:+.2f}"
            if "ci95" not in row
            else _with_interval((row["rise"], *row["ci95"]), sign="+"),
        )
        for row in rows
    ]
    return table(("claim", "encoder parameters / dense", "WER less the dense model's"), cells)


def table_of_processes(processes: Sequence[Mapping[str, Any]]) -> str:
    """Memory and sizes; what ships of CTranslate2 has neither tokenizer nor features."""
    sizes = ("peak_bytes", "model_bytes", "shipped_bytes")
    cells = [
        (
            each["threads"],
            each["side"],
            f"{each['load_ms']:.0f}",
            *(f"{each[name] / 1e6:.2f}" for name in sizes),
        )
        for each in processes
    ]
    return table(("threads", "side", "load ms", "peak MB", "model MB", "shipped MB"), cells)


def table_of_goals(goals: Sequence[Goal]) -> str:
    """What was asked for, and whether it is there."""
    cells = []
    for each in goals:
        low, high = each.ci95 or (math.nan, math.nan)
        shown = "-" if each.value is None else f"{each.value:.3f}"
        shown += f" [{low:.3f}, {high:.3f}]" if each.ci95 and low != high else ""
        missed = "not measured" if each.value is None else "not reached"
        reached = "reached" if each.reached else missed
        cells.append((each.goal, each.side, each.threads or "-", shown, each.limit, reached))
    return table(("goal", "side", "threads", "found", "limit", ""), cells)


def _with_interval(found: Ratio | None, sign: str = "") -> str:
    return "-" if found is None else f"{found[0]:{sign}.2f} [{found[1]:{sign}.2f}, {found[2]:{sign}.2f}]"


def write(path: Path, sides: Sequence[Side], settings: Settings, **found: Any) -> None:  # noqa: ANN401
    """Everything as JSON."""
    document = {
        "host": {**describe_host(), **host_state()},
        "sides": {side.name: str(side.folder) for side in sides},
        "settings": asdict(settings),
        **{
            name: [asdict(each) for each in value] if name == "goals" else value
            for name, value in found.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
