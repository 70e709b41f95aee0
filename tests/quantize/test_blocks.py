"""Tables in blocks: what is stored, what ONNX Runtime makes of it, and what is left as it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelr.quantize.blocks import Bits, Blocks, quantize_blocks, quantize_shared_tables
from edgelr.quantize.vocabulary import SMALLEST_TABLE
from edgelr.runtime.block_size import block_of

Array = NDArray[Any]
DRAW = np.random.default_rng(0)
ROWS = 700
# Whole blocks of 32, one and a half, and less than one of 32, more than one of 16.
DIMS = (96, 48, 20)


def table(rows: int = ROWS, dim: int = 96) -> Array:
    """Rows of very different lengths, one of them nothing but zeros."""
    values = DRAW.normal(size=(rows, dim)) * np.geomspace(0.01, 100, rows)[:, None]
    values[5] = 0.0
    return values.astype(np.float32)


def unpacked(codes: Array, scales: Array, bits: Bits, dim: int) -> Array:
    """The numbers that codes and scales stand for, by NumPy alone."""
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], -1)
    numbers = (codes.astype(np.float32) - 2 ** (bits - 1)) * scales[..., None]
    return numbers.reshape(len(codes), -1)[:, :dim]


# --- what is stored ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("bits", [4, 8])
def test_every_number_is_within_half_a_scale(bits: Bits, dim: int) -> None:
    """But where the one code that the other side has more is missing: there it is a whole scale."""
    values = table(dim=dim)
    codes, scales = quantize_blocks(values, Blocks(bits=bits, size=32))
    blocks = -(-dim // 32)
    assert codes.dtype == np.uint8
    assert codes.shape == (ROWS, blocks, 32 * bits // 8)
    assert scales.shape == (ROWS, blocks)
    each = np.repeat(scales, 32, axis=1)[:, :dim]
    error = np.abs(unpacked(codes, scales, bits, dim) - values)
    # Only a number as far out as the largest of the other sign misses its code.
    clipped = np.rint(values / each) > 2 ** (bits - 1) - 1
    assert np.all(error[~clipped] <= np.abs(each[~clipped]) / 2 * (1 + 1e-4))
    assert np.all(error[clipped] <= np.abs(each[clipped]) * (1 + 1e-4))
    assert clipped.mean() < 0.05
    assert not unpacked(codes, scales, bits, dim)[5].any(), "zeros stay zeros"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_largest_number_of_a_block_is_exact(bits: Bits, sign: int) -> None:
    values = (sign * np.abs(table(10, 32))).astype(np.float32)
    codes, scales = quantize_blocks(values, Blocks(bits=bits, size=32))
    at = np.abs(values).argmax(axis=1, keepdims=True)
    found = np.take_along_axis(unpacked(codes, scales, bits, 32), at, axis=1)
    np.testing.assert_allclose(found, np.take_along_axis(values, at, axis=1), rtol=1e-6)


def test_what_fills_the_last_block_is_zero() -> None:
    for bits, zero in ((8, 128), (4, 8 | 8 << 4)):
        codes, _ = quantize_blocks(table(dim=48), Blocks(bits=bits, size=32))
        assert (codes[:, 1, 16 * bits // 8 :] == zero).all()


def test_smaller_blocks_lose_less() -> None:
    values = table(dim=256)
    largest = np.abs(values).max(axis=1, keepdims=True, initial=1e-9)
    errors = []
    for size in (16, 64, 256):
        codes, scales = quantize_blocks(values, Blocks(bits=4, size=size))
        errors.append(np.linalg.norm((unpacked(codes, scales, 4, 256) - values) / largest))
    assert errors == sorted(errors)


# --- graphs -----------------------------------------------------------------------------------------


def model(
    values: Array, *, axes: int = 2, head: bool = False, tied: bool = True, extra: list[Any] | None = None
) -> onnx.ModelProto:
    """Rows are looked up; with a head, also multiplied by: ``x`` by the transpose of the same table."""
    nodes = [helper.make_node("Gather", ["rows" if head and tied else "table", "ids"], ["found"])]
    constants = {"table": values}
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, [f"n{axis}" for axis in range(axes)])]
    outputs = [helper.make_tensor_value_info("found", TensorProto.FLOAT, [*[None] * axes, values.shape[1]])]
    if head:
        nodes.append(helper.make_node("MatMul", ["x", "matrix"], ["scores"]))
        constants["matrix"] = np.ascontiguousarray(values.T)
        inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", values.shape[1]]))
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(values)]))
    if head and tied:
        nodes.insert(0, helper.make_node("Transpose", ["matrix"], ["rows"], perm=[1, 0]))
        del constants["table"]
    for node in extra or ():
        nodes.append(node)
        outputs.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(proto: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = {name: feeds[name] for name in (each.name for each in session.get_inputs())}
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, wanted), strict=True))


def floats(proto: onnx.ModelProto) -> list[list[int]]:
    """Shapes of what is stored in fp32."""
    return [list(each.dims) for each in proto.graph.initializer if each.data_type == TensorProto.FLOAT]


def feeds(dim: int, axes: int = 2) -> dict[str, Array]:
    shapes = {1: (9,), 2: (3, 5), 3: (2, 1, 4)}
    return {
        "ids": DRAW.integers(0, ROWS, size=shapes[axes]),
        "x": DRAW.normal(size=(4, dim)).astype(np.float32),
    }


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("dim", [96, 100])
@pytest.mark.parametrize("bits", [4, 8])
def test_rows_that_are_looked_up_are_those_of_numpy(bits: Bits, dim: int, axes: int) -> None:
    values, given = table(dim=dim), feeds(dim, axes)
    proto = model(values, axes=axes)
    assert quantize_shared_tables(proto, Blocks(bits=bits, size=32)) == 1
    codes, scales = quantize_blocks(values, Blocks(bits=bits, size=32))
    found = run(proto, given)["found"]
    assert found.shape == (*given["ids"].shape, dim)
    np.testing.assert_allclose(found, unpacked(codes, scales, bits, dim)[given["ids"]], rtol=1e-6)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("bits", [4, 8])
def test_one_table_is_looked_up_and_multiplied_by(bits: Bits, dim: int) -> None:
    values, given = table(dim=dim), feeds(dim)
    proto = model(values, head=True)
    assert quantize_shared_tables(proto, Blocks(bits=bits, size=32)) == 1
    codes, scales = quantize_blocks(values, Blocks(bits=bits, size=block_of(dim, 32)))
    numbers = unpacked(codes, scales, bits, dim)
    found = run(proto, given)
    np.testing.assert_allclose(found["found"], numbers[given["ids"]], rtol=1e-6)
    # The kernel rounds x to int8, block by block: half a step of 1/127 of the largest number of a block.
    expected = given["x"] @ numbers.T
    steps = np.abs(given["x"]).max() / 127 / 2 * np.abs(numbers).sum(axis=1)
    assert np.all(np.abs(found["scores"] - expected) <= steps + 1e-3)  # the kernel's own rounding of zeros


@pytest.mark.parametrize(("bits", "size", "share"), [(8, 32, 0.3), (4, 32, 0.17), (4, 128, 0.14)])
def test_a_tied_table_is_stored_once_and_nothing_of_it_in_fp32(bits: Bits, size: int, share: float) -> None:
    values = table(dim=128)
    proto = model(values, head=True)
    quantize_shared_tables(proto, Blocks(bits=bits, size=size))
    onnx.checker.check_model(proto)
    assert floats(proto) == [[ROWS, 128 // size]], "the scales"
    blocks = [each for each in proto.graph.initializer if each.data_type == TensorProto.UINT8]
    assert len(blocks) == 1
    assert len(proto.SerializeToString()) < share * values.nbytes
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("MatMulNBits") == kinds.count("GatherBlockQuantized") == 1
    assert "MatMul" not in kinds
    assert "Transpose" not in kinds
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": 20, "com.microsoft": 1}


def test_two_look_ups_share_the_blocks() -> None:
    extra = [helper.make_node("Gather", ["rows", "ids"], ["again"])]
    proto = model(table(), head=True, extra=extra)
    assert quantize_shared_tables(proto, Blocks(bits=8, size=32)) == 1
    found = run(proto, feeds(96))
    np.testing.assert_array_equal(found["again"], found["found"])
    assert len(floats(proto)) == 1


def test_a_small_table_that_a_head_shares_is_stored_once_too() -> None:
    values = table(40, 32)
    assert values.size < SMALLEST_TABLE
    proto = model(values, head=True)
    assert quantize_shared_tables(proto, Blocks(bits=8, size=32)) == 1
    alone = model(values)
    assert quantize_shared_tables(alone, Blocks(bits=8, size=32)) == 0


# --- how many nodes a look-up takes -----------------------------------------------------------------


def kinds(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def unread(proto: onnx.ModelProto) -> set[str]:
    return {each.name for each in proto.graph.initializer} - {
        name for node in proto.graph.node for name in node.input
    }


def behind(proto: onnx.ModelProto, *nodes: Any) -> onnx.ModelProto:
    """The ids come out of other nodes, as ``made``."""
    (gather,) = [node for node in proto.graph.node if node.op_type == "Gather"]
    gather.input[1] = "made"
    before = [*nodes, *proto.graph.node]
    copies = [type(node).FromString(node.SerializeToString()) for node in before]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    return proto


def flattened() -> list[Any]:
    """Ids in a row, by a shape that is computed."""
    return [
        helper.make_node("Shape", ["ids"], ["shape"]),
        helper.make_node("ReduceProd", ["shape"], ["all"], keepdims=1),
        helper.make_node("Reshape", ["ids", "all"], ["made"]),
    ]


def turned_over() -> list[Any]:
    return [
        helper.make_node("Neg", ["ids"], ["negative"]),
        helper.make_node("Abs", ["negative"], ["made"]),
    ]


def counted() -> list[Any]:
    """Positions, as an encoder looks them up."""
    numbers = {"zero": np.int64(0), "one": np.int64(1), "last": np.int64(1)}
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))
        for name, value in numbers.items()
    ]
    return [
        *constants,
        helper.make_node("Shape", ["ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["length"]),
        helper.make_node("Range", ["zero", "length", "one"], ["made"]),
    ]


@pytest.mark.parametrize("axes", [0, 1, 2, 3])
@pytest.mark.parametrize(("dim", "cut"), [(96, []), (100, ["Slice"])])
def test_blocks_of_ids_whose_axes_are_known_are_joined_by_one_node(
    dim: int, cut: list[str], axes: int
) -> None:
    values = table(dim=dim)
    proto = model(values, axes=axes)
    quantize_shared_tables(proto, Blocks(bits=8, size=32))
    # The first is of constants: a runtime computes it once.
    assert kinds(proto) == ["Reshape", "GatherBlockQuantized", "Reshape", *cut]
    assert not unread(proto)
    ids = DRAW.integers(0, ROWS, size=(2, 3, 4)[:axes])
    assert run(proto, {"ids": np.asarray(ids)})["found"].shape == (*np.shape(ids), dim)


@pytest.mark.parametrize("made", [flattened, turned_over, counted])
def test_axes_of_ids_that_are_computed_follow_from_the_inputs(made: Callable[[], list[Any]]) -> None:
    values, given = table(), feeds(96)
    before = behind(model(values), *made())
    del before.graph.output[0].type.tensor_type.shape.dim[:]
    before.graph.output[0].type.tensor_type.ClearField("shape")
    after = onnx.ModelProto.FromString(before.SerializeToString())
    quantize_shared_tables(after, Blocks(bits=8, size=32))
    assert kinds(after).count("Shape") == kinds(before).count("Shape")
    assert "Concat" not in kinds(after)
    one, other = (run(proto, given)["found"] for proto in (before, after))
    assert one.shape == other.shape
    assert np.all(np.abs(one - other) <= np.abs(one).max(axis=-1, keepdims=True) / 128 + 1e-6)


@pytest.mark.parametrize("axes", [1, 2])
def test_ids_of_any_number_of_axes_keep_it(axes: int) -> None:
    values, given = table(), feeds(96, axes)
    proto = model(values, axes=axes)
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.ClearField("shape")
    quantize_shared_tables(proto, Blocks(bits=8, size=32))
    assert kinds(proto).count("Shape") == kinds(proto).count("Concat") == 1
    assert not unread(proto)
    codes, scales = quantize_blocks(values, Blocks(bits=8, size=32))
    found = run(proto, given)["found"]
    np.testing.assert_allclose(found, unpacked(codes, scales, 8, 96)[given["ids"]], rtol=1e-6)


def test_what_is_declared_of_values_between_is_not_believed() -> None:
    proto = behind(model(table()), *turned_over())
    proto.graph.value_info.append(helper.make_tensor_value_info("made", TensorProto.INT64, ["n"]))
    quantize_shared_tables(proto, Blocks(bits=8, size=32))
    (join,) = [node for node in proto.graph.node if node.name == "found.join"]
    (shape,) = [each for each in proto.graph.initializer if each.name == join.input[1]]
    assert numpy_helper.to_array(shape).tolist() == [0, 0, 96]


@pytest.mark.parametrize("imported", [True, False])
def test_ids_of_an_operator_that_nobody_knows_have_any_number_of_axes(imported: bool) -> None:
    proto = behind(model(table()), helper.make_node("Tokens", ["ids"], ["made"], domain="a.domain"))
    if imported:
        proto.opset_import.append(helper.make_opsetid("a.domain", 1))
    assert quantize_shared_tables(proto, Blocks(bits=8, size=32)) == 1
    assert kinds(proto).count("Shape") == 1


def test_no_ids_give_no_rows() -> None:
    proto = model(table())
    quantize_shared_tables(proto, Blocks(bits=8, size=32))
    assert run(proto, {"ids": np.zeros((2, 0), np.int64)})["found"].shape == (2, 0, 96)


def test_constant_ids_are_looked_up_too() -> None:
    values = table()
    proto = model(values)
    del proto.graph.input[0], proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    proto.graph.initializer.append(numpy_helper.from_array(np.arange(200), "ids"))
    quantize_shared_tables(proto, Blocks(bits=8, size=32))
    assert "Shape" not in kinds(proto)
    assert run(proto, {})["found"].shape == (200, 96)


# --- what is left alone -----------------------------------------------------------------------------


def look_up_columns(proto: onnx.ModelProto) -> None:
    (gather,) = [node for node in proto.graph.node if node.op_type == "Gather"]
    gather.attribute.append(helper.make_attribute("axis", 1))


OTHERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "a table that is added to": lambda: model(
        table(dim=96), extra=[helper.make_node("Neg", ["table"], ["negative"])]
    ),
    "rows that are added to": lambda: model(
        table(dim=96), head=True, extra=[helper.make_node("Neg", ["rows"], ["negative"])]
    ),
    "a matrix that is added to": lambda: model(
        table(dim=96), head=True, extra=[helper.make_node("Neg", ["matrix"], ["negative"])]
    ),
    "a matrix on the left": lambda: model(
        table(dim=96), head=True, extra=[helper.make_node("MatMul", ["matrix", "rows"], ["square"])]
    ),
    "a table that is multiplied by as it is": lambda: model(
        table(dim=96), extra=[helper.make_node("MatMul", ["table", "table"], ["square"])]
    ),
    "a second transpose": lambda: model(
        table(dim=96), head=True, extra=[helper.make_node("Transpose", ["matrix"], ["other"], perm=[1, 0])]
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_table_that_is_read_in_another_way_is_left_alone(name: str) -> None:
    proto = OTHERS[name]()
    before = proto.SerializeToString()
    assert quantize_shared_tables(proto, Blocks(bits=8, size=32)) == 0
    assert proto.SerializeToString() == before


def test_columns_that_are_looked_up_are_left_alone() -> None:
    proto = model(table(dim=96))
    look_up_columns(proto)
    assert quantize_shared_tables(proto, Blocks(bits=8, size=32)) == 0


def test_an_output_of_the_graph_is_left_alone() -> None:
    """A table, its rows and a matrix may also be results."""
    for options, name in (({}, "table"), ({"head": True}, "rows"), ({"head": True}, "matrix")):
        proto = model(table(dim=96), **options)
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        expected = run(proto, feeds(96))[name]
        quantize_shared_tables(proto, Blocks(bits=8, size=32))
        np.testing.assert_array_equal(run(proto, feeds(96))[name], expected)


def test_a_transpose_that_turns_nothing_gives_no_rows() -> None:
    proto = model(table(256, 256), head=True)
    proto.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("perm", [0, 1]))
    assert quantize_shared_tables(proto, Blocks(bits=8, size=32)) == 0
    turned = model(table(256, 256), head=True)
    del turned.graph.node[0].attribute[:]  # which turns two axes, too
    assert quantize_shared_tables(turned, Blocks(bits=8, size=32)) == 1


def test_half_precision_is_left_alone() -> None:
    proto = model(table(dim=96).astype(np.float16))
    assert quantize_shared_tables(proto, Blocks(bits=8, size=32)) == 0
