"""Attention over a cache that writes into it, against the same under a mask; and what is refused."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelr.errors import ExportError
from edgelr.export.plain_attention import unfuse_attention
from edgelr.runtime.caches import counters_of

HEADS, SIZE, ROWS = 2, 8, 3
DIM = HEADS * SIZE
KIND = helper.make_tensor_value_info
Feeds = dict[str, NDArray[Any]]


def step(*, packed: bool, tokens: int = 1, bias: bool = False) -> onnx.ModelProto:
    """One step of one layer over its cache."""
    caches = [KIND(f"past_{part}_0", 1, ["batch", HEADS, "past", SIZE]) for part in ("key", "value")]
    widths = {"q": 3 * DIM} if packed else dict.fromkeys("qkv", DIM)
    parts = [KIND(name, 1, ["batch", tokens, width]) for name, width in widths.items()]
    counters = [
        KIND("seqlens_k", TensorProto.INT32, ["batch"]),
        KIND("total_sequence_length", TensorProto.INT32, [1]),
    ]
    names = ["q", "" if packed else "k", "" if packed else "v", "past_key_0", "past_value_0"]
    names += ["seqlens_k", "total_sequence_length", *(["", "", "", "bias"] if bias else [])]
    given = ["out", "present_key_0", "present_value_0"]
    options: dict[str, Any] = {"num_heads": HEADS, "kv_num_heads": HEADS, "scale": 0.7}
    node = helper.make_node(
        "GroupQueryAttention", names, given, "attention", domain="com.microsoft", **options
    )
    outputs = [KIND("out", 1, ["batch", tokens, DIM])]
    outputs += [KIND(name, 1, ["batch", HEADS, "past + 1", SIZE]) for name in given[1:]]
    ids = KIND("input_ids", TensorProto.INT64, ["batch", tokens])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "step", [ids, *parts, *caches, *counters], outputs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(proto: onnx.ModelProto, feeds: Feeds) -> Feeds:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in proto.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("past", [0, 1, 5])
@pytest.mark.parametrize("packed", [True, False])
def test_a_step_under_a_mask_is_the_step_that_appends(packed: bool, past: int) -> None:
    proto, draw = step(packed=packed), np.random.default_rng(past)
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in proto.graph.input
    }
    feeds: Feeds = {"input_ids": np.zeros((ROWS, 1), np.int64)}
    feeds |= {
        name: draw.standard_normal((ROWS, 1, shapes[name][2])).astype(np.float32)
        for name in shapes
        if len(name) == 1
    }
    feeds |= {
        name: draw.standard_normal((ROWS, HEADS, past, SIZE)).astype(np.float32)
        for name in shapes
        if name.startswith("past_")
    }
    counters = counters_of(ROWS, past)
    del counters["past_length"]
    expected = run(proto, feeds | counters)
    assert unfuse_attention(proto) == 1
    onnx.checker.check_model(proto)
    assert not any(node.domain for node in proto.graph.node)
    # What is in the room beyond the tokens does not count.
    room = ((0, 0), (0, 0), (0, 4), (0, 0))
    wide = {name: np.pad(array, room, constant_values=3.0) for name, array in feeds.items() if "past" in name}
    mask = np.tile((np.arange(past + 4) < past).astype(np.int64), (ROWS, 1))
    found = run(proto, feeds | wide | {"past_mask": mask})
    np.testing.assert_allclose(found["out"], expected["out"], rtol=0, atol=1e-5)
    for part in ("key", "value"):
        own = expected[f"present_{part}_0"][:, :, past:]
        np.testing.assert_array_equal(found[f"present_{part}_0"], own)


def test_the_graph_says_what_it_reads_and_gives() -> None:
    proto = step(packed=True)
    unfuse_attention(proto)
    names = [value.name for value in proto.graph.input]
    assert names == ["input_ids", "q", "past_key_0", "past_value_0", "past_mask"]
    axes = proto.graph.output[1].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == ["batch", HEADS, 1, SIZE]


def test_keys_and_values_that_a_graph_is_given_have_their_heads_apart_already() -> None:
    kept = [KIND(name, 1, ["batch", HEADS, "source", SIZE]) for name in ("k", "v")]
    node = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=HEADS, scale=0.5
    )
    inputs = [KIND("q", 1, ["batch", 1, DIM]), *kept]
    graph = helper.make_graph([node], "g", inputs, [KIND("y", 1, ["batch", 1, DIM])])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    draw = np.random.default_rng(0)
    feeds: Feeds = {"q": draw.standard_normal((2, 1, DIM)).astype(np.float32)}
    feeds |= {name: draw.standard_normal((2, HEADS, 5, SIZE)).astype(np.float32) for name in "kv"}
    expected = run(proto, feeds)["y"]
    assert unfuse_attention(proto) == 1
    np.testing.assert_allclose(run(proto, feeds)["y"], expected, rtol=0, atol=1e-5)


def fused(*inputs: str) -> onnx.ModelProto:
    node = helper.make_node(
        "MultiHeadAttention", inputs, ["y"], "attention", domain="com.microsoft", num_heads=2
    )
    weights = [numpy_helper.from_array(np.zeros((8, 8), np.float32), "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["q"]), node]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], weights))


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (
            fused("q", "q", "q", "", "", "", "past_key"),
            r"attention reads past_key, .*\n.*export\.operators: fused",
        ),
        (
            step(packed=True, bias=True),
            r"the bias bias .* depends on more than the distance to a token\n.*export\.operators: fused",
        ),
        (
            step(packed=True, tokens=4),
            r"attention takes several tokens a call, .*\n.*export\.operators: fused",
        ),
        (fused("x", "q", "q"), "no projection makes x, the size"),
    ],
)
def test_what_is_not_known_is_refused(proto: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        unfuse_attention(proto)
