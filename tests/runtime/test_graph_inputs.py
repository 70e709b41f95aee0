import numpy as np
import pytest

from edgelr.artifacts import Graph, Tensor
from edgelr.errors import DataError
from edgelr.runtime.graph_inputs import check_inputs

GRAPH = Graph(
    file="model.onnx",
    inputs=(
        Tensor(name="x", dtype="float", shape=("batch", 3)),
        Tensor(name="ids", dtype="int64", shape=("batch", "?")),
    ),
    outputs=(),
)
GOOD = {"x": np.zeros((2, 3), np.float32), "ids": np.zeros((2, 7), np.int64)}


def test_what_fits_may_have_more_with_it() -> None:
    check_inputs({**GOOD, "target": np.zeros(1)}, GRAPH, "inputs.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 3))}, r"inputs.npz: 'x' is float64 \[2, 3\][\s\S]*astype\(numpy.float32\)"),
        (
            {"x": np.zeros((2, 4), np.float32)},
            r"'x' is float32 \[2, 4\], model.onnx wants float32 \['batch', 3\]",
        ),
        ({"x": np.zeros(3, np.float32)}, r"'x' is float32 \[3\]"),
        ({"x": np.full((2, 3), np.nan, np.float32)}, "'x' has NaN or infinity in it"),
        ({"ids": np.zeros((5, 7), np.int64)}, "'ids' has 5 in its axis 'batch', 'x' has 2"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_inputs({**GOOD, **change}, GRAPH, "inputs.npz")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(DataError, match="call 3 has no array 'ids', only x"):
        check_inputs({"x": GOOD["x"]}, GRAPH, "inputs.npz: call 3")
    with pytest.raises(DataError, match="only none at all"):
        check_inputs({}, GRAPH, "inputs.npz")
