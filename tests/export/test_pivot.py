"""Pivoted graphs against what they were made of, in ONNX Runtime; the graphs here are written by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.export.pivot import GROWTH_LIMIT, PivotedChain, pivot_graph
from edgelr.export.tidy import constant_matrices

WIDTH = 12
LOOSE = 1e6  # a limit that refuses nothing, for what the model's accident decides


def factors(seed: int, in_: int, rank: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(in_, rank)) / in_**0.5, draw.normal(size=(rank, out)) / rank**0.5


def model(
    nodes: list[str], weights: Mapping[str, np.ndarray], outputs: tuple[str, ...] = ("y",)
) -> onnx.ModelProto:
    """Nodes as ``y = MatMul h up``; the input is ``x [batch, tokens, WIDTH]``."""
    made = []
    for node in nodes:
        output, _, call = node.partition(" = ")
        kind, *inputs = call.split()
        made.append(helper.make_node(kind, inputs, [output], name=output))
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in outputs],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def single(rank: int, out: int, seed: int = 0) -> onnx.ModelProto:
    down, up = factors(seed, WIDTH, rank, out)
    bias = np.random.default_rng(9).normal(size=out)
    weights = {"down": down, "up": up, "layer.bias": bias}
    return model(["h = MatMul x down", "p = MatMul h up", "y = Add p layer.bias"], weights)


def feed_forward(rank: int = 4, hidden: int = 20) -> onnx.ModelProto:
    """Two factored layers with Gelu between; the first and last hidden units are nearly dependent."""
    down, up = factors(1, WIDTH, rank, hidden)
    second_down, second_up = factors(2, hidden, rank, WIDTH)
    for ends in (slice(0, rank), slice(hidden - rank, hidden)):
        up[:, ends] = up[:, [5]] + 1e-4 * up[:, ends]
        second_down[ends] = second_down[[6]] + 1e-4 * second_down[ends]
    weights = {
        "first.down": down,
        "first.up": up,
        "first.bias": np.random.default_rng(3).normal(size=hidden),
        "second.down": second_down,
        "second.up": second_up,
        "second.bias": np.random.default_rng(4).normal(size=WIDTH),
    }
    nodes = ["h = MatMul x first.down", "p = MatMul h first.up", "b = Add p first.bias", "g = Gelu b"]
    nodes += ["i = MatMul g second.down", "q = MatMul i second.up", "y = Add q second.bias"]
    return model(nodes, weights)


def open_graph(proto: onnx.ModelProto) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def run(proto: onnx.ModelProto, batch: int, tokens: int) -> list[np.ndarray]:
    x = np.random.default_rng(batch).normal(size=(batch, tokens, WIDTH)).astype(np.float32)
    return [np.asarray(array) for array in open_graph(proto).run(None, {"x": x})]


def stored(proto: onnx.ModelProto) -> int:
    floats = (tensor for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    return sum(int(np.prod(tensor.dims)) for tensor in floats)


def check(before: onnx.ModelProto, limit: float = LOOSE) -> tuple[onnx.ModelProto, tuple[PivotedChain, ...]]:
    """Pivot a copy: the same function on several shapes, valid, and as much smaller as it says."""
    after = onnx.ModelProto.FromString(before.SerializeToString())
    chains = pivot_graph(after, limit)
    onnx.checker.check_model(after, full_check=True)
    for batch, tokens in ((1, 1), (2, 5), (3, 2)):
        for old, new in zip(run(before, batch, tokens), run(after, batch, tokens), strict=True):
            # fp32 rounding, times the growth of the choices that only LOOSE allows.
            np.testing.assert_allclose(new, old, atol=1e-5 * np.abs(old).max())
    assert stored(before) - stored(after) == sum(chain.saved for chain in chains)
    return after, chains


def kinds(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


@pytest.mark.parametrize("out", [7, 12, 30])
@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_a_layer_is_the_same_with_fewer_numbers(rank, out, seed):
    after, (chain,) = check(single(rank, out, seed))
    assert (chain.name, chain.rank, chain.saved, chain.reordered) == ("layer", rank, rank**2, False)
    assert constant_matrices(after) == 2
    assert (
        kinds(after)
        == {
            "output": ["MatMul", "MatMul", "Concat", "Add"],
            "input": ["Split", "MatMul", "Add", "MatMul", "Add"],
        }[chain.side or ""]
    )


@pytest.mark.parametrize("spoiled", ["first rows", "last rows", "first columns", "last columns"])
def test_the_choice_with_the_least_growth_is_taken(spoiled):
    rank, out = 3, 15
    down, up = factors(0, WIDTH, rank, out)
    end, _, side = spoiled.partition(" ")
    good = np.eye(rank) * 20
    if side == "rows":
        up[:, slice(0, rank) if end == "first" else slice(out - rank, out)] = good
    else:
        down[slice(0, rank) if end == "first" else slice(WIDTH - rank, WIDTH)] = good
    before = model(["h = MatMul x down", "y = MatMul h up"], {"down": down, "up": up})
    after, (chain,) = check(before, GROWTH_LIMIT)
    assert chain.side == ("output" if side == "rows" else "input")
    assert chain.growth < 1
    places = next(node for node in after.graph.node if node.op_type in {"Concat", "Split"})
    pivots = places.input if places.op_type == "Concat" else places.output
    assert list(pivots).index("h" if side == "rows" else "h.kept") == (0 if end == "first" else 1)


def test_full_rank_becomes_one_matrix():
    after, (chain,) = check(single(7, 7))
    assert kinds(after) == ["MatMul", "Add"]
    assert (chain.side, chain.growth, chain.saved) == ("output", 0.0, 49)
    assert constant_matrices(after) == 1
    after, (chain,) = check(single(WIDTH, 15))
    assert kinds(after) == ["MatMul", "Add"]
    assert (chain.side, chain.saved) == ("input", WIDTH**2)


def test_hidden_units_are_reordered_for_both_layers():
    before = feed_forward()
    after, chains = check(before, GROWTH_LIMIT)
    assert [(chain.name, chain.side, chain.reordered) for chain in chains] == [
        ("first", "output", True),
        ("second", "input", True),
    ]
    assert max(chain.growth for chain in chains) < 2
    assert "Gather" not in kinds(after)
    concat = next(node for node in after.graph.node if node.op_type == "Concat")
    split = next(node for node in after.graph.node if node.op_type == "Split")
    assert concat.input[1] == "h", "the second layer chose first and has its pivots in front"
    assert split.output[0] == "i.kept"


def test_without_free_channels_bad_pivots_leave_a_layer_alone():
    before = feed_forward()
    before.graph.output.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, [None] * 3))
    old = before.SerializeToString(deterministic=True)
    after, chains = check(before, 1e-3)
    assert [(chain.side, chain.saved) for chain in chains] == [(None, 0)] * 2
    assert all(chain.growth > 1e-3 for chain in chains)
    assert after.SerializeToString(deterministic=True) == old


def test_dependent_pivots_leave_a_layer_alone():
    weights = {"down": np.ones((WIDTH, 3)), "up": np.ones((3, 9))}
    after, (chain,) = check(model(["h = MatMul x down", "y = MatMul h up"], weights))
    assert (chain.side, chain.growth) == (None, float("inf"))
    assert kinds(after) == ["MatMul", "MatMul"]


JOINT = ["h = MatMul x down", "y = MatMul h up", "z = MatMul h other"]


@pytest.mark.parametrize("outs", [(9, 14), (2, 14), (2, 1), (4, 9)], ids=str)
def test_layers_with_one_down_share_the_pivots(outs):
    down, up = factors(0, WIDTH, 4, outs[0])
    weights = {"down": down, "up": up, "other": factors(5, WIDTH, 4, outs[1])[1]}
    after, (chain,) = check(model(JOINT, weights, ("y", "z")))
    assert chain.saved == 16
    assert chain.side == ("input" if outs == (2, 1) else chain.side)
    assert constant_matrices(after) <= 3


def test_layers_with_one_down_are_pivoted_where_one_up_is_good():
    down, up = factors(0, WIDTH, 4, 9)
    other = factors(5, WIDTH, 4, 14)[1]
    other[:, -4:] = 20 * np.eye(4)
    after, (chain,) = check(model(JOINT, {"down": down, "up": up, "other": other}, ("y", "z")), GROWTH_LIMIT)
    assert (chain.side, chain.saved) == ("output", 16)
    assert kinds(after) == ["MatMul", "MatMul", "MatMul", "Concat"]


def test_a_layer_that_is_called_twice_stays_one_layer():
    down, up = factors(0, WIDTH, 4, WIDTH)
    nodes = ["h = MatMul x down", "p = MatMul h up", "g = Tanh p", "i = MatMul g down", "y = MatMul i up"]
    after, chains = check(model(nodes, {"down": down, "up": up}))
    assert len(chains) == 1
    assert len({node.input[1] for node in after.graph.node if node.op_type == "MatMul"}) == 2


def test_the_bytes_are_the_same_each_time():
    one, other = (check(feed_forward())[0].SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


def test_a_factored_build_can_be_pivoted(built: Path):
    paths = (built / ".store" / "export").glob("*/model.onnx")
    before = next(proto for proto in map(onnx.load, paths) if constant_matrices(proto) > 12)
    after = onnx.ModelProto.FromString(before.SerializeToString())
    chains = pivot_graph(after, 64.0)  # random weights have worse ends than the limit allows
    assert len(chains) >= 4
    assert any(chain.side is not None for chain in chains)
    assert stored(before) - stored(after) == sum(chain.saved for chain in chains)
    ids = np.arange(2, 12, dtype=np.int64).reshape(2, 5)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    (old,), (new,) = (open_graph(proto).run(None, feeds) for proto in (before, after))
    np.testing.assert_allclose(new, old, atol=1e-5)
