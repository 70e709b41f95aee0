"""Large models are measured in part, small ones whole."""

from typing import Any

import numpy as np
import pytest

from edgelr.examples import Example
from edgelr.progress import Progress
from edgelr.quantize import bounds
from edgelr.quantize.bounds import affordable, affordable_examples
from edgelr.quantize.calibration import Data
from edgelr.quantize.layers import Layer

LAYERS = [
    Layer(name=name, kind="product", value=f"{name}.y", input="x", matrix=name, numbers=200)
    for name in "abcd"
]
ROWS = 10
VALUES = {"x": np.zeros((2, 5, 20), np.float32)} | {f"{name}.y": np.zeros((2, 5, 10)) for name in "abcd"}
RUN = ROWS * 4 * 200  # multiply-accumulates


@pytest.mark.parametrize(
    ("runs", "calls", "changed"),
    [(1000, 8, 4), (4 * 8, 8, 4), (4 * 3, 3, 4), (4, 1, 4), (2, 1, 2), (0.1, 1, 1)],
)
def test_as_many_calls_as_there_is_time_for_then_the_worst_layers(
    monkeypatch: pytest.MonkeyPatch, runs: float, calls: int, changed: int
) -> None:
    monkeypatch.setattr(bounds, "MOST_MACS", runs * RUN)
    assert affordable(LAYERS, VALUES, 8) == (calls, changed)


def test_as_many_calls_as_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    held = VALUES["x"].nbytes + 3 * sum(VALUES[layer.value].nbytes for layer in LAYERS)
    monkeypatch.setattr(bounds, "MOST_BYTES", 2 * held)
    assert affordable(LAYERS, VALUES, 8) == (2, 4)


@pytest.mark.parametrize(("numbers", "left"), [(1_000_000, 100), (400_000_000, 39), (10**9, 32)])
def test_fewer_examples_of_a_large_model(capsys: Any, numbers: int, left: int) -> None:
    examples = [Example(id=f"{at:03}", group="a", query="q", passage="p") for at in range(100)]
    layers = [
        Layer(name=name, kind="product", value=name, input="x", matrix="w", numbers=numbers) for name in "ab"
    ]
    found = affordable_examples(Data(feeds={}, validation=examples), layers, Progress(plain=True))
    assert len(found.validation) == left
    noted = f"measures on {left} of 100 validation examples" in capsys.readouterr().err
    assert noted == (left < 100)
