"""A table that is looked up and multiplied by is stored once."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.export.tables import flatten_biases, share_tables, store_rows_once, turn_heads
from edgelr.quantize.dynamic import quantize_matrices, unquantized_matrices
from edgelr.quantize.vocabulary import quantize_tables

IDS = np.array([[3, 0, 299], [7, 3, 1]])


def tied(*, other: bool = False, axis: int = 0) -> onnx.ModelProto:
    """``logits = table[ids] tableᵀ``; with ``other`` the head has a matrix of its own."""
    draw = np.random.default_rng(0)
    table = draw.normal(size=(300, 300 if axis else 16)).astype(np.float32)
    head = draw.normal(size=table.shape).astype(np.float32) if other else table
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], axis=axis),
        helper.make_node("MatMul", ["rows", "head"], ["logits"]),
    ]
    if axis:
        nodes[1] = helper.make_node("MatMul", ["table", "head"], ["logits"])
        nodes.append(helper.make_node("Identity", ["rows"], ["unused"]))
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(head.T.copy(), "head")]
    shape = [300, 300] if axis else ["batch", "tokens", 300]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def logits(model: onnx.ModelProto | Path) -> np.ndarray:
    given = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"ids": IDS})[0])


def test_an_equal_table_is_dropped_and_the_graph_computes_the_same() -> None:
    before, after = tied(), tied()
    assert share_tables(after) == 1
    onnx.checker.check_model(after)
    assert [tensor.name for tensor in after.graph.initializer] == ["head"]
    np.testing.assert_array_equal(logits(after), logits(before))


@pytest.mark.parametrize("model", [tied(other=True), tied(axis=1)], ids=["other values", "columns"])
def test_other_tables_stay(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    assert share_tables(model) == 0
    assert model.SerializeToString() == before


def test_at_int8_it_is_stored_once_too(tmp_path: Path) -> None:
    model = tied()
    share_tables(model)
    onnx.save(model, tmp_path / "fp32.onnx")
    quantize_matrices(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    small = onnx.load(tmp_path / "int8.onnx")
    assert quantize_tables(small) == 1
    onnx.checker.check_model(small)
    large = [tensor for tensor in small.graph.initializer if np.prod(tensor.dims) == 300 * 16]
    assert [tensor.data_type for tensor in large] == [TensorProto.INT8]
    assert unquantized_matrices(small) == []
    found, expected = logits(small), logits(tied())
    # 7 bits of the weights and 8 of the activations: a hundredth of the largest logit.
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def repeated(*, share: float) -> onnx.ModelProto:
    """Two look-ups in a table of which a share of rows is one and the same."""
    table = np.random.default_rng(0).normal(size=(8000, 20)).astype(np.float32)
    table[np.random.default_rng(1).permutation(8000)[: int(share * 8000)]] = table[5]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Gather", ["table", "first"], ["other"]),
        helper.make_node("Add", ["rows", "other"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([0]), "first")]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "tokens", 20])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_equal_rows_are_stored_once_and_the_graph_computes_the_same() -> None:
    before, after = repeated(share=0.5), repeated(share=0.5)
    saved = store_rows_once(after)
    onnx.checker.check_model(after, full_check=True)
    (table,) = (tensor for tensor in after.graph.initializer if tensor.name == "table")
    assert 4000 <= table.dims[0] <= 4001
    assert saved == (8000 - table.dims[0]) * 20 - 8000
    np.testing.assert_array_equal(logits(after), logits(before))
    assert quantize_tables(after) == 1
    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_allclose(logits(after), logits(before), atol=0.05)
    assert len(after.SerializeToString()) < len(before.SerializeToString()) / 3


@pytest.mark.parametrize("model", [repeated(share=0.2), tied()], ids=["few", "multiplied by"])
def test_tables_with_few_equal_rows_stay(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    assert store_rows_once(model) == 0
    assert model.SerializeToString() == before


def test_a_turned_table_is_stored_as_it_is_multiplied_by_and_then_shared() -> None:
    table = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["table"], ["matrix"], perm=[1, 0]),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "matrix"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 40])],
        [numpy_helper.from_array(table, "table")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert turn_heads(proto) == 1
    assert share_tables(proto) == 1
    assert [list(tensor.dims) for tensor in proto.graph.initializer] == [[6, 40]]
    ids = np.array([3, 39])
    (scores,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"ids": ids})
    np.testing.assert_allclose(scores, table[ids] @ table.T, rtol=1e-5)


def biased(
    shape: tuple[int, ...], *, logits: tuple[str | int, ...] = ("batch", "tokens", 300)
) -> onnx.ModelProto:
    """A head with a bias of its logits."""
    model = tied()
    graph = model.graph
    graph.node[1].output[0] = "product"
    graph.node.append(helper.make_node("Add", ["product", "bias"], ["logits"]))
    bias = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits))
    return model


def test_a_bias_of_one_row_is_flat_and_the_graph_computes_the_same() -> None:
    before, after = biased((1, 300)), biased((1, 300))
    assert flatten_biases(after) == 1
    onnx.checker.check_model(after, full_check=True)
    assert [list(each.dims) for each in after.graph.initializer if each.name == "bias"] == [[300]]
    np.testing.assert_array_equal(logits(after), logits(before))


def test_a_bias_that_is_flat_or_may_give_an_axis_stays() -> None:
    flat, read, shallow = biased((300,)), biased((1, 300)), biased((1, 300), logits=("tokens", 300))
    read.graph.node.append(helper.make_node("Identity", ["bias"], ["other"]))
    for model in (flat, read, shallow, tied()):
        before = model.SerializeToString()
        assert flatten_biases(model) == 0
        assert model.SerializeToString() == before
