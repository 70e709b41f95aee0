"""Attention that writes into its cache, against attention that copies it, in ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelr.export.in_place import keep_caches_in_place
from edgelr.runtime.caches import COUNTERS, counters_of

HEADS, SIZE, DIM = 2, 8, 16
Feeds = dict[str, NDArray[Any]]


def step(
    *, split: bool = False, bias: bool = False, size: int = SIZE, value_size: int | None = None
) -> onnx.ModelProto:
    """One step of one layer: the length of the past plus its output."""
    dim, value_dim = HEADS * size, HEADS * (value_size or size)
    value_kind = helper.make_tensor_value_info
    inputs = [
        value_kind("past_key_0", TensorProto.FLOAT, ["batch", HEADS, "past", size]),
        value_kind("past_value_0", TensorProto.FLOAT, ["batch", HEADS, "past", value_size or size]),
    ]
    widths = {"q": dim, "k": dim, "v": value_dim}
    nodes, constants = [], [numpy_helper.from_array(np.array([dim, dim, value_dim]), "widths")]
    if split:
        inputs.append(value_kind("qkv", TensorProto.FLOAT, ["batch", 1, sum(widths.values())]))
        nodes.append(helper.make_node("Split", ["qkv", "widths"], list(widths), axis=-1))
    else:
        inputs += [value_kind(name, TensorProto.FLOAT, ["batch", 1, width]) for name, width in widths.items()]
    if bias:
        inputs.append(value_kind("bias", TensorProto.FLOAT, [1, HEADS, 1, "past + 1"]))
    arguments = ["q", "k", "v", "", "", "bias" if bias else "", "past_key_0", "past_value_0"]
    nodes += [
        helper.make_node(
            "MultiHeadAttention",
            arguments,
            ["seen", "present_key_0", "present_value_0"],
            domain="com.microsoft",
            num_heads=HEADS,
            scale=0.7,
        ),
        helper.make_node("Shape", ["past_key_0"], ["before"], start=2, end=3),
        helper.make_node("Cast", ["before"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["seen", "number"], ["out"]),
    ]
    outputs = [
        value_kind("out", TensorProto.FLOAT, ["batch", 1, value_dim]),
        value_kind("present_key_0", TensorProto.FLOAT, ["batch", HEADS, "past + 1", size]),
        value_kind("present_value_0", TensorProto.FLOAT, ["batch", HEADS, "past + 1", value_size or size]),
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "step", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def random_feeds(graph: onnx.ModelProto, batch: int, past: int) -> Feeds:
    draw = np.random.default_rng(past)
    sizes = {"batch": batch, "past": past, "past + 1": past + 1}
    return {
        value.name: draw.standard_normal(
            [sizes.get(axis.dim_param, axis.dim_value) for axis in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in graph.graph.input
    }


def run(graph: onnx.ModelProto, feeds: Feeds) -> Feeds:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in graph.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("past", [0, 1, 5])
@pytest.mark.parametrize("form", [{}, {"bias": True}, {"split": True}])
def test_a_full_cache_grows_by_a_token_as_before(form: dict[str, Any], past: int) -> None:
    graph = step(**form)
    feeds = random_feeds(graph, 3, past)
    expected = run(graph, feeds)
    assert keep_caches_in_place(graph) == 1
    found = run(graph, feeds | counters_of(3, past))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5)


@pytest.mark.parametrize("past", [0, 1, 5])
@pytest.mark.parametrize("bias", [False, True])
def test_a_buffer_is_written_into(past: int, bias: bool) -> None:
    graph = step(bias=bias)
    feeds = random_feeds(graph, 3, past)
    expected = run(graph, feeds)
    keep_caches_in_place(graph)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    buffers = {}
    for part in ("key", "value"):
        buffer = np.full((3, HEADS, 8, SIZE), np.nan, np.float32)  # what is beyond the tokens is not read
        buffer[:, :, :past] = feeds.pop(f"past_{part}_0")
        buffers[part] = buffer
        shared = value(buffer)
        binding.bind_ortvalue_input(f"past_{part}_0", shared)
        binding.bind_ortvalue_output(f"present_{part}_0", shared)
    for name, array in (feeds | counters_of(3, past)).items():
        binding.bind_ortvalue_input(name, value(array))
    binding.bind_output("out")
    session.run_with_iobinding(binding)
    *_, out = binding.get_outputs()  # in the order in which they were bound
    np.testing.assert_allclose(out.numpy(), expected["out"], atol=1e-5)
    for part, buffer in buffers.items():
        np.testing.assert_array_equal(buffer[:, :, : past + 1], expected[f"present_{part}_0"])
        assert np.isnan(buffer[:, :, past + 1 :]).all()


def test_the_graph_is_told_and_asks_no_shape() -> None:
    graph = step(split=True)
    assert keep_caches_in_place(graph) == 1
    assert [node.op_type for node in graph.graph.node] == ["GroupQueryAttention", "Cast", "Add"]
    assert tuple(value.name for value in graph.graph.input)[-3:] == COUNTERS
    before = graph.SerializeToString(deterministic=True)
    assert keep_caches_in_place(graph) == 1, "it does so already"
    assert graph.SerializeToString(deterministic=True) == before


def reads_all(graph: onnx.ModelProto) -> None:
    graph.graph.node.append(helper.make_node("Identity", ["past_key_0"], ["again"]))


def asks_for_the_batch(graph: onnx.ModelProto) -> None:
    graph.graph.node.append(helper.make_node("Shape", ["past_key_0"], ["rows"], start=0, end=1))


def reads_the_present(graph: onnx.ModelProto) -> None:
    graph.graph.node.append(helper.make_node("ReduceSum", ["present_key_0"], ["sum"]))


def keeps_it_for_itself(graph: onnx.ModelProto) -> None:
    del graph.graph.output[1]


def masks_padding(graph: onnx.ModelProto) -> None:
    graph.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "past + 1"]))
    graph.graph.node[0].input[4] = "mask"


@pytest.mark.parametrize(
    ("form", "change"),
    [
        ({"size": 12}, None),
        ({"size": 16, "value_size": 8}, None),
        ({}, reads_all),
        ({}, asks_for_the_batch),
        ({}, reads_the_present),
        ({}, keeps_it_for_itself),
        ({}, masks_padding),
    ],
    ids=[
        "heads of 12",
        "values of another size",
        "read as a whole",
        "another axis",
        "present is read",
        "present is no output",
        "padding is masked",
    ],
)
def test_what_is_kept_in_another_way_stays(
    form: dict[str, Any], change: Callable[[onnx.ModelProto], None] | None
) -> None:
    graph = step(**form)
    if change is not None:
        change(graph)
    before = graph.SerializeToString(deterministic=True)
    assert keep_caches_in_place(graph) == 0
    assert graph.SerializeToString(deterministic=True) == before


def test_attention_that_was_exported_so_is_counted_and_handed_its_product_unsplit() -> None:
    names = ["q", "k", "v", "past_key", "past_value", "seqlens_k", "total_sequence_length"]
    nodes = [
        helper.make_node("Split", ["qkv", "sizes"], ["q", "k", "v"], axis=2),
        helper.make_node("GroupQueryAttention", names, ["out", "a", "b"], domain="com.microsoft"),
    ]
    graph = onnx.ModelProto(graph=helper.make_graph(nodes, "step", [], []))
    assert keep_caches_in_place(graph) == 1
    (node,) = graph.graph.node
    assert list(node.input[:4]) == ["qkv", "", "", "past_key"]
