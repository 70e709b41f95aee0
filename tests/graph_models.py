"""ONNX files of other people's making, written by hand: every kind of layer, and ways to write them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def random(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Numbers as weights have them, with a spectrum that falls."""
    draw = np.random.default_rng([seed, *shape])
    array = draw.normal(size=shape) / np.sqrt(shape[0])
    if len(shape) == 2:
        left, values, right = np.linalg.svd(array, full_matrices=False)
        array = left * (values * 0.9 ** np.arange(len(values))) @ right
    return array.astype(dtype)


def model(
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    constants: dict[str, np.ndarray],
    *,
    opset: int = 17,
    extra_opsets: tuple[Any, ...] = (),
) -> onnx.ModelProto:
    """A checked model."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), *extra_opsets]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def network(opset: int = 17, dtype: Any = np.float32) -> onnx.ModelProto:
    """An embedding, a convolution, two products of one value, a Gemm and a matrix that two products share."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def weight(*shape: int, seed: int = 0) -> np.ndarray:
        return random(*shape, seed=seed, dtype=dtype)

    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="/embed/Gather"),
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["turned", "kernel", "kernel.bias"], ["conv"], name="conv", pads=[1, 1]),
        helper.make_node("Relu", ["conv"], ["active"]),
        helper.make_node("Transpose", ["active"], ["states"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["states", "q.weight"], ["q"], name="/attention/q/MatMul"),
        helper.make_node("MatMul", ["states", "k.weight"], ["k"], name="/attention/k/MatMul"),
        helper.make_node("Mul", ["q", "k"], ["scores"]),
        helper.make_node("MatMul", ["scores", "twice.weight"], ["once"], name="first"),
        helper.make_node("Tanh", ["once"], ["bent"]),
        helper.make_node("MatMul", ["bent", "twice.weight"], ["again"], name="second"),
        helper.make_node("ReduceMax", ["again"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node("Gemm", ["pooled", "head.weight", "head.bias"], ["y"], name="head", transB=1),
    ]
    constants = {
        "table": weight(40, 24),
        "kernel": weight(32, 24, 3),
        "kernel.bias": weight(32),
        "q.weight": weight(32, 24, seed=1),
        "k.weight": weight(32, 24, seed=2),
        "twice.weight": weight(24, 24, seed=3),
        "head.weight": weight(20, 24, seed=4),
        "head.bias": weight(20),
    }
    return model(nodes, {"ids": (INT, ["b", "t"])}, {"y": (kind, ["b", 20])}, constants, opset=opset)


def network_calls(count: int = 12) -> list[dict[str, np.ndarray]]:
    """Inputs of ``network``."""
    draw = np.random.default_rng(7)
    return [{"ids": draw.integers(0, 40, (2, 9))} for _ in range(count)]


def write(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Into a file."""
    path = folder / name
    onnx.save(proto, path)
    return path


def run(path: Path, call: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, call)
    return found


RECIPE = """edgelr: 1
name: tiny
task:
  type: onnx
  data: {source: arrays, path: inputs.npz, validation: 6, test: 8}
model: {path: model.onnx}
compress:
  keep: {parameters: 0.6}
  rank_multiple: 4
  calibration: {examples: 20, sensitivity_examples: 6}
export: {pivot: true}
quantize: {scheme: int8-dynamic}
validate:
  devices: [cpu-1t]
  seconds: 0.5
  gates:
    - {metric: cosine, min: 0.5}
"""


def write_recipe(folder: Path, proto: onnx.ModelProto | None = None, text: str = RECIPE) -> Path:
    """A recipe with its model and its inputs beside it."""
    write(proto or network(), folder)
    draw = np.random.default_rng(5)
    np.savez(folder / "inputs.npz", ids=draw.integers(0, 40, (40, 9)))
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path
