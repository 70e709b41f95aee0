"""What a metric of the task loses by quantization, on examples that are not those of the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.errors import DataError
from edgelr.kinds.kind import kind_of
from edgelr.quantize.calibration import Data
from edgelr.recipe.quantize import Auto, MaxDrop, Scheme

if TYPE_CHECKING:
    from edgelr.kinds.kind import Sessions


def drop_of(package: Package, data: Data, scheme: Scheme | Auto, wanted: MaxDrop) -> Callable[[Path], float]:
    """A function that says what a metric loses against the fp32 package, which is scored once, here.

    Args:
        package: The fp32 package.
        data: Its validation examples are scored.
        scheme: What the quantized package will be called.
        wanted: The metric.

    Returns:
        (folder with the quantized graphs) -> the fp32 package's metric less theirs.

    Raises:
        DataError: There is no example that can be scored.
        UnsupportedModelError: The task is unknown.
    """
    scored = [each for each in data.validation if each.scored]
    if not scored:
        raise DataError("quantize.max_drop: there is no validation example to measure the metric on")
    judge = kind_of(package).judge(scored, data.folder)
    exact = judge.answer(package, _open(package, package.folder), None)
    best = judge.score(exact, exact)[wanted.metric].value
    named = replace(package, precision=scheme)

    def drop(folder: Path) -> float:
        answers = judge.answer(named, _open(package, folder), None)
        return best - judge.score(answers, exact)[wanted.metric].value

    return drop


def _open(package: Package, folder: Path) -> Sessions:
    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session

    device = load_devices()["cpu-1t"]
    return {role: open_session(folder / graph.file, device) for role, graph in package.graphs.items()}
