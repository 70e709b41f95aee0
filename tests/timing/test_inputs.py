from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.artifacts import Graph, Package, Tensor
from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.runtime.caches import counters_of
from edgelr.timing.feeds import feeds
from edgelr.timing.inputs import made_up_inputs

Make = Callable[..., Package]


def graph(**inputs: tuple[str, tuple[int | str, ...]]) -> Graph:
    entries = [Tensor(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in inputs.items()]
    return Graph(file="a.onnx", inputs=tuple(entries), outputs=())


def test_inputs_of_any_graph_are_made_up() -> None:
    known = graph(x=("float16", ("batch", 8)), ids=("int32", ("batch", "tokens")), past=("double", (2,)))
    assert made_up_inputs(Path("a.onnx"), known, {"batch": 3, "tokens": 5}) == {
        "x": {"normal": [3, 8], "dtype": "float16"},
        "ids": {"ones": [3, 5], "dtype": "int32"},
        "past": {"normal": [2], "dtype": "float64"},
    }


def test_caches_that_are_made_up_are_full() -> None:
    graph = Graph(
        file="decoder.onnx",
        inputs=(
            Tensor(name="past_key_0", dtype="float", shape=("batch", 2, "past", 8)),
            *(
                Tensor(name=name, dtype="int64", shape=(1,))
                for name in ("past_length", "total_sequence_length")
            ),
            Tensor(name="seqlens_k", dtype="int32", shape=("batch",)),
        ),
        outputs=(),
    )
    made = feeds(made_up_inputs(Path("decoder.onnx"), graph, {"batch": 3, "past": 5}))
    for name, array in counters_of(3, 5).items():
        assert made[name].tolist() == array.tolist()


def test_what_cannot_be_made_up_is_named() -> None:
    with pytest.raises(UsageError, match=r"a\.onnx: the size of axis 'tokens' is open"):
        made_up_inputs(Path("a.onnx"), graph(x=("float", ("tokens",))), {})
    with pytest.raises(UsageError, match="--shape heads: no input has an axis of that name"):
        made_up_inputs(Path("a.onnx"), graph(x=("float", (1,))), {"heads": 2})
    with pytest.raises(UnsupportedModelError, match="input 'x' is of type string"):
        made_up_inputs(Path("a.onnx"), graph(x=("string", (1,))), {})
