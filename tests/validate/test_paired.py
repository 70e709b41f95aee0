"""Two calls as one call of two rows."""

import numpy as np

from edgelr.artifacts import Graph, Tensor
from edgelr.validate.paired import with_a_pair

INPUTS = (
    Tensor(name="ids", dtype="int64", shape=("batch", "tokens")),
    Tensor(name="cache", dtype="float", shape=("batch", 2, "past", 3)),
    Tensor(name="past", dtype="int64", shape=(1,)),
)
GRAPH = Graph(file="decoder.onnx", inputs=INPUTS, outputs=())


def call(tokens: int, past: int) -> dict[str, np.ndarray]:
    ids = np.arange(1, tokens + 1)[None]
    return {"ids": ids, "cache": np.ones((1, 2, past, 3), np.float32), "past": np.array([past])}


def test_the_shorter_one_is_filled_up() -> None:
    calls = [call(2, 0), call(2, 1), call(5, 0), call(5, 1)]
    *same, pair = with_a_pair(calls, GRAPH)
    assert same == calls
    assert pair["ids"].tolist() == [[1, 2, 0, 0, 0], [1, 2, 3, 4, 5]]
    assert pair["cache"].shape == (2, 2, 1, 3)
    assert pair["past"].tolist() == [1]


def test_what_cannot_be_beside_another_stays_alone() -> None:
    calls = [call(2, 0), call(2, 1), call(5, 2)]
    assert with_a_pair(calls, GRAPH) == calls
    assert with_a_pair(calls[:1], GRAPH) == calls[:1]
    alone = Graph(file="decoder.onnx", inputs=INPUTS[2:], outputs=())
    assert with_a_pair(calls, alone) == calls
