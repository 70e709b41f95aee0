from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgelr.export.convert import convert
from edgelr.export.fuse import _divide, _drop_zero_masks, fuse_attention
from edgelr.export.graphs import matrix_count
from edgelr.export.tidy import tidy
from edgelr.lowrank.layers import LowRankLinear
from edgelr.tasks.task import GraphSpec

Shape = tuple[int | str, ...]


def test_every_attention_of_a_factored_build_is_fused(built: Path):
    graphs = [onnx.load(path) for path in (built / ".store" / "export").glob("*/model.onnx")]
    assert len(graphs) == 2  # the candidate and the dense baseline
    for graph in graphs:
        count = Counter(node.op_type for node in graph.graph.node)
        assert count["Attention"] == 2
        assert count["Softmax"] == 0
        # The mask is expanded once, not once a layer.
        biases = {node.input[3] for node in graph.graph.node if node.op_type == "Attention"}
        assert len(biases) == 1


class Joint(nn.Module):
    """Three layers with one ``down``."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LowRankLinear(size, size, rank, bias=True) for _ in range(3))
        for layer in self.layers:
            layer.down = self.layers[0].down
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two, three = (layer(x) for layer in self.layers)
        return one + two.tanh() + three.sigmoid()


@pytest.mark.parametrize(("size", "rank"), [(16, 4), (64, 36), (256, 64)])
def test_layers_that_share_a_factor_multiply_by_it_once(size: int, rank: int) -> None:
    torch.manual_seed(0)
    model, x = Joint(size, rank).eval(), torch.randn(2, 3, size)
    axes = {0: "batch", 1: "tokens"}
    spec = GraphSpec(
        role="model",
        module=model,
        cases=({"x": x},),
        dynamic_axes={"x": axes},
        outputs=("y",),
        output_axes={"y": axes},
    )
    graph = convert(spec, model, 20)
    fuse_attention(graph)
    proto = tidy(graph, spec, matrix_count(model))
    assert matrix_count(model) == 4
    stored = sum(np.prod(tensor.dims) for tensor in proto.graph.initializer)
    assert stored <= sum(parameter.numel() for parameter in model.parameters()) + 3
    (found,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, model(x).detach(), rtol=1e-4, atol=1e-3)


# --- masks that mask nothing ------------------------------------------------------------------------

SCORES: Shape = ("batch", 2, 1, "tokens")


def masked(mask: np.ndarray, *, first: bool = False, shape: Shape = SCORES, softmax: bool = True) -> Any:
    """Scores and a constant mask, added in either order."""
    names = ("mask", "scores") if first else ("scores", "mask")
    nodes = [helper.make_node("Add", names, ["masked" if softmax else "y"])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["masked"], ["y"], axis=-1))
    result = ("batch", 2, 1, "tokens") if len(shape) < 4 else shape
    values = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)]
    constants = [numpy_helper.from_array(mask.astype(np.float32), "mask")]
    graph = helper.make_graph(nodes, "masked", values, outputs, constants)
    opset = helper.make_opsetid("", 20)
    return onnx_ir.from_proto(helper.make_model(graph, opset_imports=[opset], ir_version=10))


@pytest.mark.parametrize("first", [False, True])
def test_a_mask_of_nothing_is_left_out(first: bool) -> None:
    model = masked(np.zeros((1, 1, 1, 1)), first=first)
    _drop_zero_masks(model)
    assert [(node.op_type, node.inputs[0].name) for node in model.graph] == [("Softmax", "scores")]
    onnx.checker.check_model(onnx_ir.to_proto(model))


@pytest.mark.parametrize(
    ("mask", "options"),
    [
        (np.full((1, 1, 1, 1), -1e9), {}),
        (np.zeros((1, 2, 1, 1)), {}),  # it may be what gives each head its row
        (np.zeros(1), {}),
        (np.zeros((1, 1, 1, 1)), {"shape": (2, 1, "tokens")}),  # without it there would be three axes
        (np.zeros((1, 1, 1, 1)), {"softmax": False}),  # the output has no other maker
    ],
    ids=["number", "row", "axis", "axes", "output"],
)
def test_an_addition_that_does_something_stays(mask: np.ndarray, options: dict[str, Any]) -> None:
    model = masked(mask, **options)
    _drop_zero_masks(model)
    assert next(iter(model.graph)).op_type == "Add"
    onnx.checker.check_model(onnx_ir.to_proto(model))


def test_a_mask_that_is_an_input_stays_whatever_its_shape() -> None:
    model = masked(np.zeros((1, 1, 1, 1)))
    del model.graph.initializers["mask"]
    value = next(iter(model.graph)).inputs[1]
    value.const_value = None
    model.graph.inputs.append(value)
    _drop_zero_masks(model)
    assert [node.op_type for node in model.graph] == ["Add", "Softmax"]


def test_a_product_with_an_inverse_becomes_a_quotient() -> None:
    """Of a root mean square norm, whose pattern the runtime knows only so; other inverses stay."""
    nodes = [
        helper.make_node("Reciprocal", ["root"], ["inverse"]),
        helper.make_node("Mul", ["x", "inverse"], ["y"]),
        helper.make_node("Reciprocal", ["x"], ["kept"]),
        helper.make_node("Add", ["kept", "y"], ["z"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "root", "y", "z")]
    graph = helper.make_graph(nodes, "norm", values[:2], values[2:])
    model = onnx_ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    _divide(model)
    fused = onnx_ir.to_proto(model)
    assert [node.op_type for node in fused.graph.node] == ["Reciprocal", "Div", "Reciprocal", "Add"]
    session = onnxruntime.InferenceSession(fused.SerializeToString())
    x, root = np.array([1, 2, 4], np.float32), np.array([2, 4, 5], np.float32)
    y, z = session.run(None, {"x": x, "root": root})
    np.testing.assert_allclose(y, x / root, rtol=1e-6)
    np.testing.assert_allclose(z, 1 / x + x / root, rtol=1e-6)
