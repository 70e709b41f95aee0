"""ONNX files of other packages, smaller: judged by what those packages then say.

    python scripts/benchmarks/onnx_files.py                   # both; three minutes on two cores
    python scripts/benchmarks/onnx_files.py magika            # one of them

Builds ``recipes/magika.yaml`` and ``recipes/silero-vad.yaml``, puts the package's graph where the wheel has
its own, and asks the wheel's own API on inputs that no recipe sees: the label of every file; in which windows
of 32 ms there is speech, and from when to when. Times are those of the API, the two graphs in turn, the
median of the rounds. Prints a table, writes JSON.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgelr.errors import GateError
from edgelr.load.speech_synthesis import SAMPLE_RATE
from edgelr.pipeline import build
from edgelr.progress import Progress

RECIPES = Path(__file__).parents[2] / "recipes"
MODELS = {
    "magika": ("magika", "models/standard_v3_3/model.onnx"),
    "silero-vad": ("silero_vad", "data/silero_vad_16k_op15.onnx"),
}
RECORDINGS = 40
_WINDOW = 512  # samples
Ask = Callable[[], list[Any]]
"""Asks an API for all decisions, file by file or window by window."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(MODELS)))
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/onnx-files"), show_default=True)
@click.option("--rounds", default=3, show_default=True, help="How often each graph is timed.")
def main(names: tuple[str, ...], out: Path, rounds: int) -> None:
    """Build both recipes and compare the decisions."""
    rows = [measured(name, out, rounds) for name in names or sorted(MODELS)]
    print("| model | bytes | of the file | decisions | equal | speed | plan |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['bytes']:,} | {row['share']:.3f} | {row['decisions']} | "
            f"{row['equal']:.4f} | x{row['speedup']:.2f} | {row['plan']} |"
        )
        if "segments" in row:
            print(
                f"  {row['segments']} segments: {row['segments_equal']:.3f} to the sample, "
                f"{row['segments_near']:.3f} with both ends within a window of {_WINDOW} samples"
            )
    (out / "onnx_files.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measured(name: str, out: Path, rounds: int) -> dict[str, Any]:
    """One recipe's row."""
    try:
        build(RECIPES / f"{name}.yaml", out / name, progress=Progress())
    except GateError as error:
        print(error)
    report = json.loads((out / name / "report.json").read_text(encoding="utf-8"))
    made = next((out / name).glob("*/model.onnx"))
    package, path = MODELS[name]
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    dense = Path(spec.submodule_search_locations[0]) / path
    ask_of = {"magika": file_kinds, "silero-vad": speech_windows}[name]
    asks = [ask_of(dense), ask_of(made)]
    before, after = (ask() for ask in asks)
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for ask, taken in zip(asks, times, strict=True):
            start = time.perf_counter()
            ask()
            taken.append(time.perf_counter() - start)
    row = {
        "name": name,
        "bytes": made.stat().st_size,
        "share": made.stat().st_size / dense.stat().st_size,
        "decisions": len(before),
        "equal": float(np.mean([one == other for one, other in zip(before, after, strict=True)])),
        "speedup": statistics.median(times[0]) / statistics.median(times[1]),
        "plan": ", ".join(
            f"{layer['name'].split('/')[-1]} {layer['form']}" + (f" {layer['rank']}" if layer["rank"] else "")
            for layer in report["layers"]
        ),
    }
    return row | (compared_segments(dense, made) if name == "silero-vad" else {})


def file_kinds(graph: Path) -> Ask:
    """The label of every file."""
    from magika import Magika

    files: Sequence[Path] = runpy.run_path(str(RECIPES / "magika" / "files.py"))["files"](held_out=True)
    spec = importlib.util.find_spec("magika")
    assert spec is not None and spec.submodule_search_locations
    original = Path(spec.submodule_search_locations[0]) / Path(MODELS["magika"][1]).parent
    folder = Path(tempfile.mkdtemp()) / "model"
    shutil.copytree(original, folder)
    shutil.copyfile(graph, folder / "model.onnx")
    reader = Magika(model_dir=folder)
    return lambda: [str(each.output.label) for each in reader.identify_paths(list(files))]


def speech_windows(graph: Path) -> Ask:
    """Whether there is speech in every window of every recording."""
    model, heard = _voice_activity(graph), _recordings()

    def ask() -> list[bool]:
        return [bool(p > 0.5) for pcm in heard for p in model.audio_forward(pcm, SAMPLE_RATE)[0]]

    return ask


def compared_segments(dense: Path, made: Path) -> dict[str, float]:
    """How many of the segments that the package finds with its own graph it finds with the other."""
    from silero_vad import get_speech_timestamps

    exact, near, count = 0, 0, 0
    models = [_voice_activity(dense), _voice_activity(made)]
    for pcm in _recordings():
        wanted, found = (get_speech_timestamps(pcm, each, sampling_rate=SAMPLE_RATE) for each in models)
        count += len(wanted)
        for one in wanted:
            apart = [max(abs(one[end] - other[end]) for end in ("start", "end")) for other in found]
            exact += min(apart, default=_WINDOW + 1) == 0
            near += min(apart, default=_WINDOW + 1) <= _WINDOW
    return {"segments": count, "segments_equal": exact / count, "segments_near": near / count}


def _voice_activity(graph: Path) -> Any:  # noqa: ANN401 - of silero_vad
    from silero_vad.utils_vad import OnnxWrapper

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the one rate that it takes, which its name says
        model = OnnxWrapper(str(graph), force_onnx_cpu=True)
    model.sample_rates = [SAMPLE_RATE]
    return model


def _recordings() -> list[Any]:
    import torch

    made = runpy.run_path(str(RECIPES / "silero-vad" / "windows.py"))["recordings"]
    return [torch.from_numpy(pcm) for pcm in islice(made("test", 1), RECORDINGS)]


if __name__ == "__main__":
    main()
