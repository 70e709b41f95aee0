"""Attention in ONNX's own operator gives what MultiHeadAttention gives; what it is not for stays."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgelr.export.masked_attention import use_onnx_attention

HEADS, QUERY, VALUE = 2, 8, 6
KIND = helper.make_tensor_value_info


def attention(*, mask: bool = True, ahead: bool = False, **attributes: Any) -> onnx.ModelProto:
    """One attention over projections; ``ahead``: its keys are given with heads apart."""
    shapes = {"x": ["batch", "tokens", QUERY], "v": ["batch", "tokens", VALUE]}
    if mask:
        shapes["bias"] = ["batch", 1, "tokens", "tokens"]
    inputs = [KIND(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    if ahead:
        inputs.append(KIND("k", TensorProto.FLOAT, ["batch", HEADS, "tokens", QUERY // HEADS]))
    nodes = [helper.make_node("Neg", ["x"], ["q"])]
    nodes += [] if ahead else [helper.make_node("Tanh", ["x"], ["k"])]
    nodes.append(helper.make_node("Identity", ["v"], ["w"]))
    read = ["q", "k", "w", "", "", "bias"] if mask else ["q", "k", "w"]
    domain, name = "com.microsoft", "attention"
    nodes.append(
        helper.make_node(
            "MultiHeadAttention", read, ["y"], name, domain=domain, num_heads=HEADS, **attributes
        )
    )
    graph = helper.make_graph(nodes, "g", inputs, [KIND("y", TensorProto.FLOAT, ["batch", "tokens", VALUE])])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(proto: onnx.ModelProto) -> Any:
    draw, rows, tokens = np.random.default_rng(0), 3, 5
    hidden = np.where(np.arange(tokens) < np.array([5, 3, 1])[:, None], 0, np.finfo(np.float32).min)
    feeds = {
        "x": draw.normal(size=(rows, tokens, QUERY)),
        "v": draw.normal(size=(rows, tokens, VALUE)),
        "bias": np.broadcast_to(hidden[:, None, None], (rows, 1, tokens, tokens)),
    }
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: array.astype(np.float32) for name, array in feeds.items()})
    return found


@pytest.mark.parametrize("attributes", [{}, {"scale": 0.3}], ids=str)
def test_each_row_attends_to_what_its_mask_shows(attributes: dict[str, Any]) -> None:
    proto = attention(**attributes)
    expected = run(proto)
    assert use_onnx_attention(proto) == 1
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node] == ["Neg", "Tanh", "Identity", "Attention"]
    assert proto.graph.node[-1].name == "attention"
    np.testing.assert_allclose(run(proto), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "proto",
    [attention(mask=False), attention(ahead=True), attention(unidirectional=1)],
    ids=["no mask", "keys with heads apart", "causal"],
)
def test_what_the_other_operator_is_for_stays(proto: onnx.ModelProto) -> None:
    before = proto.SerializeToString()
    assert use_onnx_attention(proto) == 0
    assert proto.SerializeToString() == before


def test_the_opset_stays_where_it_would_change_another_operator() -> None:
    proto = attention()
    norm = helper.make_node("GroupNormalization", ["y", "s", "b"], ["z"], num_groups=1)
    proto.graph.node.append(norm)
    assert use_onnx_attention(proto) == 0
    assert proto.opset_import[0].version == 20
