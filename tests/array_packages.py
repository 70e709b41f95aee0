"""A package of arrays of a few KiB: one layer, its values and the number of the largest of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelr.artifacts import Cost, Package
from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.examples import write_examples
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.calls import write_calls, write_outputs
from edgelr.runtime.graph import describe_graph, run_graph
from edgelr.runtime.package import seal_package

EXAMPLES = 6
IN, OUT = 8, 4
Arrays = dict[str, NDArray[Any]]


def write_layer(path: Path, *, batch: str | int = "batch", noise: float = 0.0, bad: bool = False) -> None:
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(IN, OUT)).astype(np.float32)
    weight += noise * draw.normal(size=weight.shape).astype(np.float32)
    if bad:
        weight[0, 0] = np.nan
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["winner"], axis=1, keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, IN])]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, OUT]),
        helper.make_tensor_value_info("winner", TensorProto.INT64, [batch]),
    ]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def calls(rows: int = 2) -> list[Arrays]:
    draw = np.random.default_rng(1)
    return [
        {
            "x": draw.normal(size=(rows, IN)).astype(np.float32),
            "target": draw.integers(0, OUT, size=rows),
        }
        for _ in range(EXAMPLES)
    ]


def write_array_package(
    folder: Path, metric: Callable[[Arrays, Arrays], float] | None = None, **graph: Any
) -> Package:
    """The dense model is the layer without noise."""
    folder.mkdir(parents=True)
    fixed = {name: value for name, value in graph.items() if name == "batch"}
    write_layer(folder / "dense.onnx", **fixed)
    session = open_session(folder / "dense.onnx", load_devices()["cpu-1t"])
    examples = calls(fixed.get("batch", 2))
    outputs = [run_graph(session, call) for call in examples]
    (folder / "dense.onnx").unlink()
    judged = (
        None if metric is None else np.array([metric(*pair) for pair in zip(outputs, examples, strict=True)])
    )
    write_outputs(folder, outputs, judged)
    write_examples(folder / "examples.jsonl", write_calls(folder, "test", examples))
    case = {**examples[0], **outputs[0]}
    write_arrays(folder / "reference.npz", {f"{name}.0": case[name] for name in ("x", "y", "winner")})
    write_layer(folder / "model.onnx", **graph)
    return seal_package(
        folder,
        name="layer",
        task="custom",
        graphs={"model": describe_graph(folder / "model.onnx")},
        precision="fp32",
        cost=Cost(parameters=IN * OUT, bytes=0, macs=IN * OUT),
        settings={},
        source={"model": "layer", "fingerprint": "f" * 64},
        gates=(),
        accuracy={},
    )
