"""Attention over a cache: joined where it is one, left alone where it is anything else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgelr.export.cached import feed_cached_keys, fuse_cached_attention

HEADS, SIZE = 2, 4
DIM = HEADS * SIZE
KEPT = ["batch", HEADS, "past", SIZE]
PRESENT = ["batch", HEADS, "past + 1", SIZE]
Arrays = dict[str, NDArray[Any]]


class Step:
    """One step of self-attention over a cache as it is traced, node by node; a test may change any."""

    def __init__(self, *, bias: bool = False, scale: str | None = "Mul") -> None:
        draw = np.random.default_rng(0)
        self.constants: Arrays = {f"w{part}": draw.normal(size=(DIM, DIM)) for part in "qkv"}
        self.constants |= {
            "factor": np.array(0.25 if scale == "Mul" else 4.0),
            "into": np.array([0, 1, HEADS, SIZE], np.int64),
            "joined": np.array([0, 1, DIM], np.int64),
        }
        self.inputs = {"x": ["batch", 1, DIM], "past_key": KEPT, "past_value": KEPT}
        self.outputs = {"y": ["batch", 1, DIM], "present_key": PRESENT, "present_value": PRESENT}
        self.nodes: dict[str, onnx.NodeProto] = {}
        for part in "qkv":
            self.add("MatMul", ["x", f"w{part}"], part)
            self.add("Reshape", [part, "into"], f"{part}_split")
            self.add("Transpose", [f"{part}_split"], f"{part}_heads", perm=[0, 2, 1, 3])
        self.add("Concat", ["past_key", "k_heads"], "present_key", axis=-2)
        self.add("Concat", ["past_value", "v_heads"], "present_value", axis=2)
        self.add("Transpose", ["present_key"], "turned", perm=[0, 1, 3, 2])
        self.add("MatMul", ["q_heads", "turned"], "scores")
        last = "scores"
        if scale:
            self.add(scale, [last, "factor"], last := "scaled")
        if bias:
            self.inputs["bias"] = [1, HEADS, 1, "past + 1"]
            self.add("Add", [last, "bias"], last := "biased")
        self.add("Softmax", [last], "weights", axis=-1)
        self.add("MatMul", ["weights", "present_value"], "context")
        self.add("Transpose", ["context"], "back", perm=[0, 2, 1, 3])
        self.add("Reshape", ["back", "joined"], "y")

    def add(self, kind: str, read: list[str], made: str, **attributes: Any) -> None:
        self.nodes[made] = helper.make_node(kind, read, [made], name=made, **attributes)

    def show(self, name: str, shape: list[int | str]) -> None:
        """Let others read a value inside: it becomes an output of the graph."""
        self.outputs[name] = shape

    def read_again(self, name: str, shape: list[int | str]) -> None:
        """Let another node read a value inside, right after it was made."""
        at = list(self.nodes).index(name) + 1
        self.add("Neg", [name], "again")
        again = self.nodes.pop("again")
        entries = list(self.nodes.items())
        self.nodes = dict([*entries[:at], ("again", again), *entries[at:]])
        self.outputs["again"] = shape

    def proto(self) -> onnx.ModelProto:
        def values(shapes: dict[str, list[int | str]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in shapes.items()
            ]

        constants = [
            numpy_helper.from_array(array if array.dtype == np.int64 else array.astype(np.float32), name)
            for name, array in self.constants.items()
        ]
        graph = helper.make_graph(
            list(self.nodes.values()), "step", values(self.inputs), values(self.outputs), constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)

    def feeds(self, past: int) -> Arrays:
        draw = np.random.default_rng(past)
        sizes = {"batch": 3, "past": past, "past + 1": past + 1}
        shapes = {name: [sizes.get(dim, dim) for dim in shape] for name, shape in self.inputs.items()}
        return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def joined(step: Step, fuse: Callable[[Any], int] = fuse_cached_attention) -> tuple[int, onnx.ModelProto]:
    """How many attentions were joined, and the graph without what nobody reads."""
    model = onnx_ir.from_proto(step.proto())
    count = fuse(model)
    RemoveUnusedNodesPass()(model)
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto)
    return count, proto


def run(proto: onnx.ModelProto, feeds: Arrays) -> Arrays:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True))


def check_equal(step: Step, proto: onnx.ModelProto) -> None:
    for past in (5, 1, 0):
        expected, found = (run(each, step.feeds(past)) for each in (step.proto(), proto))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, atol=1e-5)  # fp32 sums in another order


def kinds(proto: onnx.ModelProto) -> list[str]:
    return sorted(node.op_type for node in proto.graph.node)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [None, "Mul", "Div"])
def test_a_step_is_one_node_that_keeps_the_cache(bias: bool, scale: str | None) -> None:
    step = Step(bias=bias, scale=scale)
    count, proto = joined(step)
    assert count == 1
    # The two constants of a Reshape are gone with it.
    assert kinds(proto) == ["MatMul"] * 3 + ["MultiHeadAttention"]
    (node,) = [node for node in proto.graph.node if node.op_type == "MultiHeadAttention"]
    assert list(node.output) == ["y", "present_key", "present_value"]
    assert list(node.input[5:]) == ["bias" if bias else "", "past_key", "past_value"]
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    assert attributes == {"num_heads": HEADS, "scale": 1.0 if scale is None else 0.25}
    check_equal(step, proto)


def test_a_bias_may_come_first() -> None:
    step = Step(bias=True)
    step.add("Add", ["bias", "scaled"], "biased")
    count, proto = joined(step)
    assert count == 1
    check_equal(step, proto)


def test_what_reads_the_cache_of_a_joined_step_goes_on_with_it() -> None:
    step = Step()
    step.add("Neg", ["y"], "after")
    step.show("after", ["batch", 1, DIM])
    count, proto = joined(step)
    assert count == 1
    check_equal(step, proto)


def rotated(step: Step) -> None:
    """A position is rotated into queries and keys: anything that is done to them in their heads."""
    step.constants["angle"] = np.linspace(0.5, 1.5, SIZE)
    for part in "qk":
        entries = dict(step.nodes)
        step.add("Mul", [f"{part}_heads", "angle"], f"{part}_turned")
        turned = step.nodes.pop(f"{part}_turned")
        step.nodes = {}
        for name, node in entries.items():
            step.nodes[name] = node
            if name == f"{part}_heads":
                step.nodes[f"{part}_turned"] = turned
    step.nodes["scores"].input[0] = "q_turned"
    step.nodes["present_key"].input[1] = "k_turned"


# --- anything else ----------------------------------------------------------------------------------


def turn(step: Step, name: str, *perm: int) -> None:
    """Another order of axes."""
    step.nodes[name].attribute[0].CopyFrom(helper.make_attribute("perm", perm))


def sideways(step: Step) -> None:
    """Queries whose channels are split the other way: ``[batch, 1, size, heads]``."""
    step.constants["sideways"] = np.array([0, 1, SIZE, HEADS], np.int64)
    step.nodes["q_split"].input[1] = "sideways"
    turn(step, "q_heads", 0, 3, 1, 2)


def scale_of_an_input(step: Step) -> None:
    del step.constants["factor"]
    step.inputs["factor"] = [1]


def flat_result(step: Step) -> None:
    step.constants["joined"] = np.array([-1, DIM], np.int64)
    step.outputs["y"] = ["batch", DIM]


def flat_layer(step: Step) -> None:
    """Tokens of all texts one after the other."""
    step.constants["tokens"] = np.array([-1, DIM], np.int64)
    step.constants["into"] = np.array([-1, 1, HEADS, SIZE], np.int64)
    step.nodes = {"flat": helper.make_node("Reshape", ["x", "tokens"], ["flat"]), **step.nodes}
    for part in "qkv":
        step.nodes[part].input[0] = "flat"


def bias_of_two_axes(step: Step) -> None:
    step.inputs["bias"] = [1, "past + 1"]


def bias_of_one_number(step: Step) -> None:
    step.inputs["bias"] = [1, 1, 1, 1]


def twice(step: Step) -> None:
    """The newest value comes a second time."""
    step.nodes["present_value"].input.append("v_heads")
    step.nodes["present_key"].input.append("k_heads")
    for name in ("present_key", "present_value"):
        step.outputs[name] = ["batch", HEADS, "past + 2", SIZE]


SCORES: list[int | str] = ["batch", HEADS, 1, "past + 1"]
OTHERS: dict[str, tuple[Callable[[Step], object], dict[str, Any]]] = {
    "scores are read": (lambda step: step.read_again("scores", SCORES), {}),
    "weights are read": (lambda step: step.read_again("weights", SCORES), {}),
    "keys are read": (lambda step: step.read_again("present_key", PRESENT), {}),
    "values are read": (lambda step: step.read_again("present_value", PRESENT), {}),
    "context is read": (lambda step: step.read_again("context", ["batch", HEADS, 1, SIZE]), {}),
    "scores are an output": (lambda step: step.show("scores", SCORES), {}),
    "weights are an output": (lambda step: step.show("weights", SCORES), {}),
    "scale of an input": (scale_of_an_input, {}),
    "scale a head": (lambda step: step.constants.update(factor=np.array([0.2, 0.3]).reshape(2, 1, 1)), {}),
    "scale over scores": (lambda step: step.add("Div", ["factor", "scores"], "scaled"), {"scale": "Div"}),
    "context in another order": (lambda step: turn(step, "back", 0, 2, 3, 1), {}),
    "softmax over heads": (lambda step: step.add("Softmax", ["scaled"], "weights", axis=1), {}),
    "a flat result": (flat_result, {}),
    "a bias of two axes": (bias_of_two_axes, {"bias": True}),
    "a bias of one number": (bias_of_one_number, {"bias": True}),
    "two new tokens": (twice, {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_left_alone(name: str) -> None:
    change, options = OTHERS[name]
    step = Step(**options)
    change(step)
    count, proto = joined(step)
    assert count == 0
    assert "MultiHeadAttention" not in kinds(proto)
    check_equal(step, proto)


@pytest.mark.parametrize("change", [rotated, sideways, flat_layer])
def test_of_one_token_heads_are_joined_whatever_was_done_to_them(change: Callable[[Step], None]) -> None:
    step = Step()
    change(step)
    count, proto = joined(step)
    assert count == 1
    assert kinds(proto).count("MultiHeadAttention") == 1
    check_equal(step, proto)


def test_no_cache_nothing_to_join() -> None:
    step = Step()
    for part in ("key", "value"):
        del step.inputs[f"past_{part}"]
        step.constants[f"past_{part}"] = np.zeros((1, HEADS, 3, SIZE))
        step.outputs[f"present_{part}"] = [1, HEADS, 4, SIZE]
    step.inputs["x"] = step.outputs["y"] = [1, 1, DIM]
    count, proto = joined(step)
    assert count == 0
    assert kinds(proto).count("Softmax") == 1


# --- keys and values of the source ------------------------------------------------------------------


class Cross(Step):
    """One fused cross-attention whose keys and values are turned as MultiHeadAttention wants them."""

    def __init__(self, perm: tuple[int, ...] = (0, 2, 1, 3)) -> None:
        super().__init__()
        self.nodes = {}
        kept: list[int | str] = ["batch", HEADS, "source", SIZE]
        self.inputs = {"x": ["batch", 1, DIM], "cross_key": kept, "cross_value": kept}
        self.outputs = {"y": ["batch", 1, DIM]}
        self.constants = {"flat": np.array([0, -1, DIM], np.int64)}
        for part in ("key", "value"):
            self.add("Transpose", [f"cross_{part}"], f"{part}_turned", perm=perm)
            self.add("Reshape", [f"{part}_turned", "flat"], part)
        self.add("MultiHeadAttention", ["x", "key", "value"], "y", num_heads=HEADS, domain="com.microsoft")

    def proto(self) -> onnx.ModelProto:
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        values = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
            for shapes in (self.inputs, self.outputs)
        ]
        graph = helper.make_graph(list(self.nodes.values()), "cross", *values, constants)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def feeds(self, past: int) -> Arrays:
        draw = np.random.default_rng(past)
        sizes = {"batch": 3, "source": past + 2}
        shapes = {name: [sizes.get(dim, dim) for dim in shape] for name, shape in self.inputs.items()}
        return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_keys_and_values_of_the_source_are_read_as_they_are_kept() -> None:
    step = Cross()
    count, proto = joined(step, feed_cached_keys)
    assert count == 1
    (node,) = proto.graph.node
    assert list(node.input[:3]) == ["x", "cross_key", "cross_value"]
    check_equal(step, proto)


def test_what_is_computed_of_them_is_not_left_out() -> None:
    turned = Cross((0, 2, 3, 1))
    negated = Cross()
    negated.nodes = {"negative": helper.make_node("Neg", ["cross_key"], ["negative"]), **negated.nodes}
    negated.nodes["key_turned"].input[0] = "negative"
    for step in (turned, negated):
        count, proto = joined(step, feed_cached_keys)
        assert count == 0
        assert len(proto.graph.node) == len(step.nodes)
        check_equal(step, proto)
