from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.lowrank.rotate import rotate_inner, turned
from edgelr.quantize.dynamic import quantize_matrices

X = np.random.default_rng(7).normal(size=(2, 40, 32)).astype(np.float32)


def factors(seed: int = 0, *, decay: float = 1e-2) -> tuple[np.ndarray, np.ndarray]:
    """``down [32, 16]`` and ``up [16, 24]`` of a product whose spectrum falls, balanced."""
    draw = np.random.default_rng(seed)
    left, _ = np.linalg.qr(draw.normal(size=(32, 16)))
    right, _ = np.linalg.qr(draw.normal(size=(24, 16)))
    root = np.geomspace(1, decay, 16) ** 0.5
    return (left * root).astype(np.float32), (right * root).T.astype(np.float32)


def graph(nodes, constants, outputs) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", 32])]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    model = helper.make_graph(nodes, "g", inputs, made, tensors)
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def chain(*, joint: bool = False, seen: bool = False, shared: bool = False) -> onnx.ModelProto:
    """A factored layer. ``joint``: two read ``down``; ``seen``: ``h`` is an output; ``shared``: twice."""
    down, up = factors()
    constants = {"down": down, "up": up}
    nodes = [helper.make_node("MatMul", ["x", "down"], ["h"]), helper.make_node("MatMul", ["h", "up"], ["y"])]
    outputs = ["y"]
    if joint:
        constants["other"] = factors(1)[1]
        nodes.append(helper.make_node("MatMul", ["h", "other"], ["z"]))
        outputs.append("z")
    if seen:
        outputs.append("h")
    if shared:
        nodes += [helper.make_node("MatMul", ["x", "down"], ["again"])]
        outputs.append("again")
    return graph(nodes, constants, outputs)


def run(model: onnx.ModelProto | Path, x: np.ndarray = X) -> list[np.ndarray]:
    given = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, {"x": x})]


@pytest.mark.parametrize("joint", [False, True])
def test_the_graph_computes_the_same(joint):
    before, after = chain(joint=joint), chain(joint=joint)
    assert rotate_inner(after) == 1
    for one, other in zip(run(before), run(after), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    assert {t.name: list(t.dims) for t in after.graph.initializer} == {
        t.name: list(t.dims) for t in before.graph.initializer
    }


def test_the_same_rotation_every_time():
    one, other = chain(), chain()
    rotate_inner(one)
    rotate_inner(other)
    assert one.SerializeToString() == other.SerializeToString()


def test_int8_loses_less(tmp_path):
    """Hidden states have a mean, and it lies along what the first inner dimensions read."""
    down, _ = factors()
    x = X + 50 * down[:, 0]
    errors = []
    for name in ("as-is", "turned"):
        model = chain()
        if name == "turned":
            rotate_inner(model)
        onnx.save(model, tmp_path / f"{name}.onnx")
        quantize_matrices(tmp_path / f"{name}.onnx", tmp_path / f"{name}-int8.onnx")
        errors.append(np.square(run(tmp_path / f"{name}-int8.onnx", x)[0] - run(chain(), x)[0]).sum())
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("options", [{"seen": True}, {"shared": True}])
def test_what_something_else_reads_stays(options):
    model = chain(**options)
    before = model.SerializeToString()
    assert rotate_inner(model) == 0
    assert model.SerializeToString() == before


def test_of_three_products_in_a_row_two_are_turned():
    down, up = factors()
    last = np.random.default_rng(3).normal(size=(24, 8)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", [source, name], [target])
        for source, name, target in (("x", "down", "h"), ("h", "up", "y"), ("y", "last", "z"))
    ]
    before, after = (graph(nodes, {"down": down, "up": up, "last": last}, ["z"]) for _ in range(2))
    assert rotate_inner(after) == 1
    np.testing.assert_allclose(run(after)[0], run(before)[0], atol=1e-5)


def test_a_down_without_full_rank_is_only_rotated():
    down = np.ones((32, 4))
    turn, back = turned(down)
    np.testing.assert_allclose(turn @ turn.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(turn @ back, np.eye(4), atol=1e-12)
    turn, back = turned(np.zeros((32, 4)))
    np.testing.assert_allclose(turn @ back, np.eye(4), atol=1e-12)
    turn, back = turned(np.random.default_rng(0).normal(size=(3, 5)))
    np.testing.assert_allclose(turn @ back, np.eye(5), atol=1e-12)


def test_rows_become_orthonormal():
    down, _ = factors(decay=1e-4)
    turn, back = turned(down.astype(np.float64))
    made = down @ turn
    np.testing.assert_allclose(made.T @ made, np.eye(16), atol=1e-6)
    np.testing.assert_allclose(turn @ back, np.eye(16), atol=1e-6)


def test_a_down_that_hardly_differs_is_turned_nearly_alike():
    """Even where singular values are equal, and their vectors whatever a library makes of them."""
    draw = np.random.default_rng(0)
    down, _ = np.linalg.qr(draw.normal(size=(32, 16)))
    made = [each @ turned(each)[0] for each in (down, down + 1e-6 * draw.normal(size=down.shape))]
    np.testing.assert_allclose(made[1], made[0], atol=1e-4)
