"""A graph quantized from input to output."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgelr.artifacts import Package
from edgelr.quantize.whole import _with_padding, is_plain, quantize_whole, split_tables
from edgelr.runtime.package import model_path

PRODUCT = "mixing"


@pytest.fixture
def proto(make_package: Callable[..., Package]) -> onnx.ModelProto:
    found = onnx.load(model_path(make_package()))
    for number, node in enumerate(found.graph.node):
        node.name = PRODUCT if node.op_type == "MatMul" else f"node {number}"
    return found


def feeds(count: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    return [
        {"input_ids": draw.integers(4, 40, (1, size)), "attention_mask": np.ones((1, size), np.int64)}
        for size in draw.integers(2, 9, count)
    ]


def run(model: Any, given: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(
        model if isinstance(model, str) else model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, given)[0]


def test_a_graph_is_plain_when_all_of_it_can_be_quantized(proto: onnx.ModelProto) -> None:
    assert is_plain(proto, [PRODUCT])
    assert not is_plain(proto, []), "its product is to stay as it is"
    proto.graph.node[0].domain = "com.microsoft"
    assert not is_plain(proto, [PRODUCT])
    proto.graph.node[0].domain = ""
    for operator in ("QuantizeLinear", "Attention"):
        proto.graph.node[0].op_type = operator
        assert not is_plain(proto, [PRODUCT])


def test_splitting_a_table_changes_nothing(proto: onnx.ModelProto) -> None:
    (given,) = feeds(1)
    before = run(proto, given)
    assert split_tables(proto) == 1
    onnx.checker.check_model(proto)
    rows, scales = (
        onnx.numpy_helper.to_array(tensor)
        for tensor in proto.graph.initializer
        if tensor.name in ("table", "table.scale")
    )
    assert np.abs(rows).max() == 1
    assert scales.shape == (len(rows), 1)
    np.testing.assert_allclose(run(proto, given), before, rtol=0, atol=1e-6)


def test_what_is_hidden_is_padded_wherever_it_is() -> None:
    shapes = {
        "attention_mask": ["batch", "source"],
        "cross_key_0": ["batch", 2, "source", 4],
        "input_ids": ["batch", 1],
    }
    inputs = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    graph = onnx.helper.make_model(onnx.helper.make_graph([], "g", inputs, []))
    calls = [
        {
            "attention_mask": np.ones((1, length)),
            "cross_key_0": np.ones((1, 2, length, 4)),
            "input_ids": np.ones((1, 1)),
        }
        for length in (1, 3)
    ]
    for padded, length in zip(_with_padding(calls, graph), (1, 3), strict=True):
        assert [each.shape for each in padded.values()] == [(1, 4), (1, 2, 4, 4), (1, 1)]
        assert padded["attention_mask"].sum() == length
    assert list(_with_padding([{"x": np.ones(2)}], onnx.ModelProto())) == [{"x": pytest.approx([1, 1])}]


def test_nothing_between_is_a_float(proto: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(proto, tmp_path / "plain.onnx")
    quantize_whole(tmp_path / "plain.onnx", tmp_path / "wide.onnx", feeds(8), "minmax")
    wide = onnx.load(tmp_path / "wide.onnx")
    made_by = {name: node for node in wide.graph.node for name in node.output}
    for node in wide.graph.node:
        if node.op_type in ("MatMul", "Mul", "Div", "ReduceSum"):
            assert all(made_by[name].op_type == "DequantizeLinear" for name in node.input[:1]), node.name
    weight = next(tensor for tensor in wide.graph.initializer if tensor.name.startswith("layer_quantized"))
    assert weight.data_type == onnx.TensorProto.INT8
    scale = next(tensor for tensor in wide.graph.initializer if tensor.name.startswith("layer_scale"))
    assert list(scale.dims) == [weight.dims[1]], "one for each output"
    for given in feeds(3):
        exact, found = run(proto, given), run(str(tmp_path / "wide.onnx"), given)
        cosine = (exact * found).sum() / np.linalg.norm(exact) / np.linalg.norm(found)
        assert cosine > 0.999
