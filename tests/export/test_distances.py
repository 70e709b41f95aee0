"""Biases by distance against the graphs that compute them; T5's own is in test_translation_graphs.py."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.errors import ExportError
from edgelr.export.builder import replace_nodes
from edgelr.export.distances import bias_of_buffer, tabulate_distances

HEADS = 3
INT64 = TensorProto.INT64
TABLE = np.random.default_rng(0).normal(size=(2000, HEADS)).astype(np.float32)
CONSTANTS = {"zero": 0, "one": 1, "first": [0], "second": [1], "left": -2, "right": 4, "table": TABLE}


def graph_of(size: list[Any], capped: list[Any], inputs: dict[str, list[Any]], given: list[Any]) -> Any:
    """A bias between places 0 to ``size`` and the query's: ``row`` less ``column``, capped, looked up."""
    nodes = [
        *size,
        helper.make_node("Range", ["zero", "size", "one"], ["places"]),
        helper.make_node("Unsqueeze", ["places", "first"], ["row"]),
        *capped,
        helper.make_node("Gather", ["table", "index"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["heads"], perm=[2, 0, 1]),
        helper.make_node("Unsqueeze", ["heads", "first"], ["bias"]),
        helper.make_node("Add", ["bias", "scores"], ["y"]),
    ]
    kinds = {"scores": TensorProto.FLOAT}
    values = [
        helper.make_tensor_value_info(name, kinds.get(name, INT64), axes) for name, axes in inputs.items()
    ]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, given)]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in CONSTANTS.items()]
    return helper.make_graph(nodes, "g", values, out, tensors)


def encoder(index: str = "Clip") -> onnx.GraphProto:
    size = [
        helper.make_node("Shape", ["ids"], ["shape"], start=1, end=2),
        helper.make_node("Squeeze", ["shape"], ["size"]),
    ]
    capped = [
        helper.make_node("Unsqueeze", ["places", "second"], ["column"]),
        helper.make_node("Sub", ["row", "column"], ["apart"]),
        helper.make_node("Clip", ["apart", "left", "right"], ["clipped"])
        if index == "Clip"
        else helper.make_node(index, ["row", "column"], ["clipped"]),
        helper.make_node("Add", ["clipped", "right"], ["index"]),
    ]
    inputs = {"ids": ["batch", "tokens"], "scores": ["batch", HEADS, "tokens", "tokens"]}
    return graph_of(size, capped, inputs, inputs["scores"])


def decoder(farthest: int) -> onnx.GraphProto:
    size = [
        helper.make_node("Squeeze", ["past_length"], ["before"]),
        helper.make_node("Add", ["before", "one"], ["size"]),
    ]
    capped = [
        helper.make_node("Sub", ["past_length", "row"], ["apart"]),
        helper.make_node("Min", ["apart", "farthest"], ["index"]),
    ]
    inputs = {"past_length": [1], "scores": ["batch", HEADS, 1, "past + 1"]}
    graph = graph_of(size, capped, inputs, inputs["scores"])
    graph.initializer.append(numpy_helper.from_array(np.int64(farthest), "farthest"))
    return graph


def run(graph: onnx.GraphProto, feeds: dict[str, Any]) -> list[Any]:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_between_all_tokens_of_a_text(tokens: int) -> None:
    scores = np.random.default_rng(1).normal(size=(2, HEADS, tokens, tokens)).astype(np.float32)
    feeds = {"ids": np.zeros((2, tokens), np.int64), "scores": scores}
    graph = encoder()
    expected = run(graph, feeds)
    assert tabulate_distances(graph) == 1
    table = next(tensor for tensor in graph.initializer if tensor.name == "bias/between/table")
    assert list(table.dims) == [7, HEADS], "from -2 to 4"
    np.testing.assert_array_equal(run(graph, feeds), expected)


@pytest.mark.parametrize("index", ["Max", "Mul"])
def test_what_is_no_bias_by_distance_stays(index: str) -> None:
    """By the later one of two places; and by their product, which a table has no row for."""
    graph = encoder(index)
    before = graph.SerializeToString()
    assert tabulate_distances(graph) == 0
    assert graph.SerializeToString() == before


@pytest.mark.parametrize("past", [0, 1, 7])
def test_of_a_buffer_under_a_mask(past: int) -> None:
    room, rows = 10, 2
    scores = np.random.default_rng(2).normal(size=(rows, HEADS, 1, room + 1)).astype(np.float32)
    kept = np.concatenate((scores[..., :past], scores[..., -1:]), axis=-1)
    graph = decoder(5)
    (expected,) = run(graph, {"past_length": np.array([past]), "scores": kept})
    before, own, nodes = bias_of_buffer(graph, "bias", "hidden")
    inputs = [
        helper.make_tensor_value_info("past_length", INT64, [1]),
        helper.make_tensor_value_info("past_mask", INT64, ["batch", "past"]),
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", 1, 1, "past"]),
    ]
    out = helper.make_tensor_value_info(before, TensorProto.FLOAT, ["batch", HEADS, 1, "past"])
    replace_nodes(graph, nodes)
    made = helper.make_graph(nodes, "g", inputs, [out], list(graph.initializer))
    mask = np.tile((np.arange(room) < past).astype(np.int64), (rows, 1))
    hidden = (mask[:, None, None] - 1).astype(np.float32) * 100
    (found,) = run(made, {"past_length": np.array([past]), "past_mask": mask, "hidden": hidden})
    np.testing.assert_allclose((scores[..., :room] + found)[..., :past], expected[..., :past], atol=1e-6)
    assert found[..., past:].max(initial=-100) < -90
    (last,) = (numpy_helper.to_array(each) for each in graph.initializer if each.name == own)
    np.testing.assert_allclose(scores[..., -1:] + last, expected[..., -1:], atol=1e-6)


def test_a_bias_without_an_end_is_refused() -> None:
    with pytest.raises(ExportError, match=r"changes with every distance, .*\n.*export\.operators: fused"):
        bias_of_buffer(decoder(1500), "bias", "hidden")


def test_a_bias_of_anything_else_is_refused() -> None:
    graph = decoder(5)
    graph.initializer[0].CopyFrom(numpy_helper.from_array(np.int64(1), "zero"))  # not from the first token on
    with pytest.raises(ExportError, match="more than the distance"):
        bias_of_buffer(graph, "bias", "hidden")
    with pytest.raises(ExportError, match="more than the distance"):
        bias_of_buffer(decoder(5), "y", "hidden")
