"""Projections side by side compute what they did apart; the graphs here are written by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.export import packed
from edgelr.export import torch_module as stage
from edgelr.export.packed import pack_projections
from edgelr.export.pivot import pivot_graph
from edgelr.progress import Progress
from edgelr.quantize.stage import quantize_graph
from edgelr.recipe.quantize import Quantize

WIDTH = 32
SHAPES = {
    "q": (WIDTH, 32),
    "k": (WIDTH, 16),
    "v": (WIDTH, 24),
    "q.bias": (32,),
    "k.bias": (16,),
    "v.bias": (24,),
    "one": (1,),
    "down": (WIDTH, 12),
    "other": (WIDTH, 12),
    "up.q": (12, 32),
    "up.k": (12, 16),
    "up.v": (12, 24),
    "table": (32, WIDTH),
}
BARE = ["q0 = MatMul x q", "k0 = MatMul x k", "v0 = MatMul x v"]
BIASED = [*BARE, "q1 = Add q0 q.bias", "k1 = Add k.bias k0", "v1 = Add v0 v.bias"]
MIXED = [*BARE, "q1 = Add q0 q.bias", "v1 = Add v0 v.bias"]


def model(nodes: Sequence[str], outputs: Sequence[str] = ("y",)) -> onnx.ModelProto:
    """Nodes as ``y = MatMul h up``; the input is ``x [batch, tokens, WIDTH]``."""
    made = []
    for node in nodes:
        output, _, call = node.partition(" = ")
        kind, *inputs = call.split()
        options = {"axis": -1} if kind == "Concat" else {}
        made.append(helper.make_node(kind, inputs, [output], name=output, **options))
    used = {name for node in made for name in node.input}
    draw = np.random.default_rng(0)
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def ending(*values: str) -> list[str]:
    """A reader of its own for each value, and all of them as one output."""
    return [
        *(f"{value}.read = Sigmoid {value}" for value in values),
        f"y = Concat {' '.join(f'{each}.read' for each in values)}",
    ]


def kinds(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node if node.op_type not in {"Sigmoid", "Concat"}]


def sizes(proto: onnx.ModelProto) -> list[list[int]]:
    return [list(tensor.dims) for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT]


def run(given: onnx.ModelProto | Path, batch: int, tokens: int) -> list[np.ndarray]:
    graph = given.SerializeToString() if isinstance(given, onnx.ModelProto) else str(given)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(batch).normal(size=(batch, tokens, WIDTH)).astype(np.float32)
    return [np.asarray(array) for array in session.run(None, {"x": x})]


def check_same(after: onnx.ModelProto, before: onnx.ModelProto) -> None:
    onnx.checker.check_model(after, full_check=True)
    for shape in ((1, 1), (4, 1), (3, 7)):
        for found, expected in zip(run(after, *shape), run(before, *shape), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "left", "stored"),
    [
        ([*BARE, *ending("q0", "k0", "v0")], ["MatMul", "Split"], [[WIDTH, 72]]),
        ([*BIASED, *ending("q1", "k1", "v1")], ["MatMul", "Add", "Split"], [[WIDTH, 72], [72]]),
        ([*MIXED, *ending("q1", "k0", "v1")], ["MatMul", "Add", "Split"], [[WIDTH, 72], [72]]),
        ([*BARE[:2], *ending("q0", "k0")], ["MatMul", "Split"], [[WIDTH, 48]]),
    ],
    ids=["without biases", "with biases", "one without", "two"],
)
def test_products_of_one_value_become_one(nodes: list[str], left: list[str], stored: list[list[int]]) -> None:
    before, after = model(nodes), model(nodes)
    assert pack_projections(after) == kinds(before).count("MatMul")
    assert kinds(after) == left
    assert sizes(after) == stored
    check_same(after, before)


def test_factors_that_share_one_become_two_products() -> None:
    nodes = ["h = MatMul x down", *(f"{each}0 = MatMul h up.{each}" for each in "qkv")]
    nodes += [*BIASED[3:], *ending("q1", "k1", "v1")]
    before, after = model(nodes), model(nodes)
    assert pack_projections(after) == 3
    assert kinds(after) == ["MatMul", "MatMul", "Add", "Split"]
    check_same(after, before)


SEPARATE = ["h = MatMul x down", "i = MatMul x other", "q0 = MatMul h up.q", "k0 = MatMul i up.k"]


def test_separate_factors_become_two_products_of_which_one_has_zeros() -> None:
    nodes = [*SEPARATE, "q1 = Add q0 q.bias", *ending("q1", "k0")]
    before, after = model(nodes), model(nodes)
    assert pack_projections(after) == 4
    assert kinds(after) == ["MatMul", "MatMul", "Add", "Split"]
    assert sizes(after) == [[WIDTH, 24], [24, 48], [48]]
    check_same(after, before)


def test_parts_are_brought_to_one_scale() -> None:
    after = model([*SEPARATE, *ending("q0", "k0")])
    for tensor in after.graph.initializer:
        if tensor.name == "down":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 50, "down"))
    before = onnx.ModelProto.FromString(after.SerializeToString())
    pack_projections(after)
    first = numpy_helper.to_array(after.graph.initializer[0])
    one, other = (np.sqrt(np.mean(part**2)) for part in np.split(first, 2, axis=1))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    for found, expected in zip(run(after, 3, 7), run(before, 3, 7), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("more", [[], ["again = Relu h"]], ids=["too many zeros", "another reader"])
def test_other_factors_stay_behind_the_split(more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_MOST_ZEROS", 100 if not more else 2**16)
    nodes = [*SEPARATE, *more, *ending("q0", "k0", *(["again"] if more else []))]
    before, after = model(nodes), model(nodes)
    assert pack_projections(after) == 2
    assert kinds(after)[:2] == ["MatMul", "Split"]
    assert kinds(after).count("MatMul") == 3
    check_same(after, before)


def test_the_product_stands_where_the_first_one_stood() -> None:
    """What reads the first projection may come before the second one."""
    nodes = ["q0 = MatMul x q", "q1 = Add q0 q.bias", "g = Relu q1", "k0 = MatMul x k", *ending("g", "k0")]
    before, after = model(nodes), model(nodes)
    assert pack_projections(after) == 2
    assert kinds(after) == ["MatMul", "Add", "Split", "Relu"]
    check_same(after, before)


@pytest.mark.parametrize(
    "added",
    [
        ["b = Sigmoid x", "q1 = Add q0 b"],
        ["q1 = Add q0 one"],
        ["q1 = Add q0 q.bias", "q2 = Relu q0", *ending("q1", "q2", "k0")],
        ["q1 = Add q0 q0"],
    ],
    ids=["no constant", "one number", "read twice", "added to itself"],
)
def test_other_sums_stay_behind_the_split(added: list[str]) -> None:
    nodes = [*BARE[:2], *added]
    nodes += [] if nodes[-1].startswith("y") else ending("q1", "k0")
    before, after = model(nodes), model(nodes)
    assert pack_projections(after) == 2
    assert kinds(after)[:1] == ["MatMul"]
    assert kinds(after).count("MatMul") == kinds(after).count("Split") == kinds(after).count("Add") == 1
    assert kinds(after).index("Split") < kinds(after).index("Add")
    check_same(after, before)


def test_a_bias_that_others_read_too_stays_for_them() -> None:
    nodes = [*BIASED, "z0 = Add q1 q.bias", *ending("z0", "k1", "v1")]
    before, after = model(nodes), model(nodes)
    assert pack_projections(after) == 3
    assert sizes(after) == [[32], [WIDTH, 72], [72]]
    check_same(after, before)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        (["q0 = MatMul x q", "g = Relu x", "k0 = MatMul g k", *ending("q0", "k0")], ["y"]),
        (["a = MatMul x q", "b = MatMul x q", *ending("a", "b")], ["y"]),
        (
            ["r = Transpose table", "k0 = MatMul x k", "v0 = MatMul x table", *ending("r", "k0", "v0")],
            ["y"],
        ),
        ([*BARE[:2], *ending("q0", "k0")], ["y", "q0"]),
        ([*BARE[:2], "q1 = Add q0 q.bias", *ending("q1", "k0")], ["y", "q1"]),
        ([*BARE[:2], "q1 = Add q0 q.bias", *ending("q1", "k0")], ["y", "q0"]),
        (["h = MatMul q x", "g = MatMul q x", *ending("h", "g")], ["y"]),
    ],
    ids=["another value", "one matrix", "a tied table", "output", "biased output", "output too", "left"],
)
def test_nothing_else_is_changed(nodes: list[str], outputs: list[str]) -> None:
    proto = model(nodes, outputs)
    before = proto.SerializeToString(deterministic=True)
    assert pack_projections(proto) == 0
    assert proto.SerializeToString(deterministic=True) == before


def test_the_others_are_packed_without_it() -> None:
    before, after = (model([*BARE, *ending("q0", "k0", "v0")], ["y", "q0"]) for _ in range(2))
    assert pack_projections(after) == 2
    assert kinds(after) == ["MatMul", "MatMul", "Split"]
    check_same(after, before)


def test_a_branch_may_read_any_value() -> None:
    proto = model([*BARE, *ending("q0", "k0", "v0")])
    inner = helper.make_graph(
        [helper.make_node("Relu", ["q0"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    proto.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner))
    assert pack_projections(proto) == 0


def test_the_bytes_are_the_same_each_time() -> None:
    made = [model([*MIXED, *ending("q1", "k0", "v1")]) for _ in range(2)]
    for proto in made:
        pack_projections(proto)
    one, other = (proto.SerializeToString(deterministic=True) for proto in made)
    assert one == other
    assert pack_projections(made[0]) == 0, "there is nothing left to do"


def test_after_pivoting_too() -> None:
    nodes = ["h = MatMul x down", *(f"{each}0 = MatMul h up.{each}" for each in "qkv")]
    before, after = (model([*nodes, *ending("q0", "k0", "v0")]) for _ in range(2))
    pivot_graph(after, limit=1e6)
    pivoted = len(after.graph.node)
    assert pack_projections(after) == 3
    assert len(after.graph.node) == pivoted - 1
    for found, expected in zip(run(after, 2, 3), run(before, 2, 3), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def with_own_split(more: Sequence[str] = (), outputs: Sequence[str] = ("y",)) -> onnx.ModelProto:
    """Factors of a model that splits a product itself."""
    given = model(["s = MatMul x both", "q0 = MatMul h up.q", *more, *ending("q0", "i")], outputs)
    draw = np.random.default_rng(1).normal(size=(WIDTH, 24)).astype(np.float32)
    given.graph.initializer.append(numpy_helper.from_array(draw, "both"))
    given.graph.node.insert(1, helper.make_node("Split", ["s"], ["h", "i"], axis=-1, num_outputs=2))
    sigmoid = next(node for node in given.graph.node if node.output[0] == "i.read")
    sigmoid.op_type, sigmoid.output[0] = "MatMul", "k0"
    sigmoid.input.append("up.k")
    joined = next(node for node in given.graph.node if node.op_type == "Concat")
    joined.input[:] = ["q0.read", "k0"]
    weights = np.random.default_rng(2).normal(size=(12, 16)).astype(np.float32)
    given.graph.initializer.append(numpy_helper.from_array(weights, "up.k"))
    return given


@pytest.mark.parametrize(
    ("more", "outputs"),
    [([], ("y", "s")), ([], ("y", "h")), (["again = MatMul x both"], ("y", "again"))],
    ids=["the product is an output", "a part is an output", "the matrix is read again"],
)
def test_a_split_that_others_see_stays(more: list[str], outputs: tuple[str, ...]) -> None:
    before, after = with_own_split(more, outputs), with_own_split(more, outputs)
    pack_projections(after)
    assert [node.op_type for node in after.graph.node].count("Split") == 1
    check_same(after, before)


def test_a_split_of_its_own_is_taken_for_one() -> None:
    before, after = with_own_split(), with_own_split()
    assert pack_projections(after) == 2
    check_same(after, before)


@pytest.mark.parametrize("scheme", ["int8-dynamic", "weight-int8", "weight-int4"])
@pytest.mark.parametrize("nodes", [BIASED, MIXED], ids=["biased", "mixed"])
def test_quantized_it_is_what_it_was_apart(scheme: str, nodes: list[str], tmp_path: Path) -> None:
    """Scales are of a column, or of a block of one: none of them sees another projection.

    Half-quadratic rounding goes on as long as any block gets better, so it does a little.
    """
    nodes = [*nodes, *ending("q1", "k1" if nodes is BIASED else "k0", "v1")]
    before, after = model(nodes), model(nodes)
    pack_projections(after)
    for name, proto in (("before", before), ("after", after)):
        onnx.save(proto, tmp_path / f"{name}.onnx")
        settings = Quantize(scheme=scheme, rounding="plain")
        quantize_graph(tmp_path / f"{name}.onnx", tmp_path / f"{name}.q.onnx", settings)
    counts = [
        sum(
            node.op_type in {"MatMulInteger", "MatMulNBits"}
            for node in onnx.load(tmp_path / f"{name}.q.onnx").graph.node
        )
        for name in ("before", "after")
    ]
    assert counts == [3, 1]
    for shape in ((1, 1), (3, 7)):
        found, expected = (run(tmp_path / f"{name}.q.onnx", *shape)[0] for name in ("after", "before"))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_factors_are_turned_before_they_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a Split no stage finds them, and a few wide inner dimensions would leave int8 no levels."""
    nodes = ["h = MatMul x down", "i = MatMul x other", "q0 = MatMul h up.q", "k0 = MatMul i up.k"]
    monkeypatch.setattr(packed, "_MOST_ZEROS", 0)
    plain = model([*nodes, *ending("q0", "k0")])
    for tensor in plain.graph.initializer:
        wide = np.where(np.arange(12) < 1, 30.0, 1.0).astype(np.float32)
        array = numpy_helper.to_array(tensor)
        scaled = array * wide if tensor.name in {"down", "other"} else array / (10 * wide[:, None])
        tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    errors = []
    for pack in (lambda proto: stage._pack(proto, "decoder.onnx", Progress(quiet=True)), pack_projections):
        turned = onnx.ModelProto.FromString(plain.SerializeToString())
        pack(turned)
        assert kinds(turned) == ["MatMul", "Split", "MatMul", "MatMul"]
        check_same(turned, plain)
        onnx.save(turned, tmp_path / "packed.onnx")
        quantize_graph(tmp_path / "packed.onnx", tmp_path / "int8.onnx", Quantize(scheme="int8-dynamic"))
        difference = run(tmp_path / "int8.onnx", 3, 7)[0] - run(plain, 3, 7)[0]
        errors.append(float(np.abs(difference).mean()))
    assert errors[0] < 0.5 * errors[1]
