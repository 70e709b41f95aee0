"""Small graphs of every form that a layer has, with weights like those of trained ones: a few are large."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
DIM, HIDDEN, RANK, TOKENS = 64, 160, 40, 1200  # a rank that blocks of 32 do not divide; a table that is large


@dataclass(frozen=True)
class Tiny:
    """A graph in a file, and calls of it."""

    path: Path
    feeds: list[dict[str, Array]]

    def run(self, path: Path | None = None) -> Array:
        """All outputs of all calls in one row."""
        session = onnxruntime.InferenceSession(str(path or self.path), providers=["CPUExecutionProvider"])
        return np.concatenate([array.ravel() for given in self.feeds for array in session.run(None, given)])

    def cosine(self, path: Path) -> float:
        """Of another file's outputs to this one's."""
        one, other = self.run(), self.run(path)
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def weights(draw: np.random.Generator, *shape: int) -> Array:
    return (draw.standard_t(5, size=shape) / np.sqrt(shape[0])).astype(np.float32)


def write_tiny(folder: Path, kind: str, *, opset: int = 20, extra: tuple[Any, ...] = ()) -> Tiny:
    """Write ``x -> first, Gelu, second -> y``; tied also looks ids up in what its head multiplies by."""
    draw = np.random.default_rng(3)
    nodes: list[Any] = []
    constants: dict[str, Array] = {"bias": weights(draw, HIDDEN)}

    def product(name: str, x: str, matrix: Array, y: str) -> None:
        constants[f"{name}.weight"] = matrix
        nodes.append(helper.make_node("MatMul", [x, f"{name}.weight"], [y], name=name))

    def layer(name: str, x: str, rows: int, columns: int, y: str) -> None:
        if kind in {"dense", "tied"}:
            product(name, x, weights(draw, rows, columns), y)
            return
        product(f"{name}.down", x, weights(draw, rows, RANK), f"{y}.h")
        if kind == "factored":
            product(f"{name}.up", f"{y}.h", weights(draw, RANK, columns), y)
        else:
            product(f"{name}.up", f"{y}.h", weights(draw, RANK, columns - RANK), f"{y}.rest")
            nodes.append(
                helper.make_node("Concat", [f"{y}.rest", f"{y}.h"], [y], name=f"{y}.concat", axis=-1)
            )

    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", DIM])]
    output, x = "y", "x"
    if kind == "tied":
        constants["head.weight"] = weights(draw, DIM, TOKENS)
        inputs.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]))
        nodes += [
            helper.make_node("Transpose", ["head.weight"], ["table"], name="turn", perm=[1, 0]),
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="embedding"),
            helper.make_node("Add", ["x", "rows"], ["seen"], name="seen"),
        ]
        output, x = "states", "seen"
    layer("encoder.first", x, DIM, HIDDEN, "first")
    nodes.append(helper.make_node("Add", ["first", "bias"], ["biased"], name="biased"))
    nodes.append(helper.make_node("Gelu", ["biased"], ["hidden"], name="gelu"))
    layer("encoder.second", "hidden", HIDDEN, DIM, output)
    if kind == "tied":
        nodes.append(helper.make_node("MatMul", ["states", "head.weight"], ["y"], name="head"))
    if opset < 20:
        (gelu,) = (node for node in nodes if node.op_type == "Gelu")
        gelu.op_type = "Relu"
    graph = helper.make_graph(
        [*nodes, *extra],
        kind,
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", TOKENS if kind == "tied" else DIM])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = folder / f"{kind}.onnx"
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    feeds = []
    for size in (3, 17, 8, 40):
        given = {"x": draw.normal(size=(size, DIM)).astype(np.float32)}
        feeds.append(given | ({"ids": draw.integers(0, TOKENS, size=size)} if kind == "tied" else {}))
    return Tiny(path, feeds)


KINDS = ("dense", "factored", "pivoted", "tied")


@pytest.fixture
def make_tiny(tmp_path: Path) -> Callable[..., Tiny]:
    """``make_tiny("factored", opset=11)``, in the test's own folder."""
    return lambda kind, **options: write_tiny(tmp_path, kind, **options)


@pytest.fixture(params=KINDS)
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Tiny:
    """Each of them in turn."""
    return write_tiny(tmp_path, request.param)
