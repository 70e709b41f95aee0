import logging

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.quantize.dynamic import unquantized_matrices
from edgelr.quantize.weights import quantize_weights

RANDOM = np.random.default_rng(0)


def write_layer(path, rows: int = 96, columns: int = 40) -> np.ndarray:
    """``y = x matrix``."""
    matrix = RANDOM.normal(size=(rows, columns)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "matrix"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", columns])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return matrix


@pytest.mark.parametrize("tokens", [1, 17])
@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.12)])
@pytest.mark.parametrize("rows", [96, 48, 20])  # of 32 each: whole blocks, one and a half, less than one
def test_close_to_fp32_at_every_shape(tmp_path, tokens, bits, error, rows):
    matrix = write_layer(tmp_path / "a.onnx", rows)
    quantize_weights(tmp_path / "a.onnx", tmp_path / "q.onnx", bits=bits, block_size=32)
    x = RANDOM.normal(size=(tokens, rows)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    assert np.linalg.norm(found - x @ matrix) < error * np.linalg.norm(x @ matrix)


@pytest.mark.parametrize(("bits", "share"), [(8, 0.32), (4, 0.19)])
def test_bytes_and_nothing_left_behind(tmp_path, bits, share):
    write_layer(tmp_path / "a.onnx", 512, 512)
    quantize_weights(tmp_path / "a.onnx", tmp_path / "q.onnx", bits=bits, block_size=32)
    assert (tmp_path / "q.onnx").stat().st_size < share * (tmp_path / "a.onnx").stat().st_size
    model = onnx.load(tmp_path / "q.onnx")
    assert unquantized_matrices(model) == []
    assert [node.op_type for node in model.graph.node] == ["MatMulNBits"]
    assert all(
        tensor.data_type != TensorProto.FLOAT or "scales" in tensor.name for tensor in model.graph.initializer
    )


def test_smaller_blocks_lose_less(tmp_path):
    matrix = write_layer(tmp_path / "a.onnx", 256, 64)
    x = RANDOM.normal(size=(50, 256)).astype(np.float32)
    errors = []
    for block_size in (16, 64, 256):
        quantize_weights(tmp_path / "a.onnx", tmp_path / "q.onnx", bits=4, block_size=block_size)
        session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"), providers=["CPUExecutionProvider"])
        errors.append(np.linalg.norm(session.run(None, {"x": x})[0] - x @ matrix))
    assert errors == sorted(errors)


def test_short_rows_are_stored_without_what_would_fill_a_block(tmp_path):
    matrices = {
        "a": RANDOM.normal(size=(32, 96)),
        "b": RANDOM.normal(size=(96, 256)),
        "c": RANDOM.normal(size=(256, 8)),
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [before, name], [f"y{name}"], name=name)
            for before, name in (("x", "a"), ("ya", "b"), ("yb", "c"))
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("yc", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(matrix.astype(np.float32), name) for name, matrix in matrices.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "a.onnx")
    quantize_weights(tmp_path / "a.onnx", tmp_path / "q.onnx", bits=8, block_size=128)
    nodes = onnx.load(tmp_path / "q.onnx").graph.node
    sizes = {node.name: {each.name: each.i for each in node.attribute}["block_size"] for node in nodes}
    assert sizes == {"a_Q8": 32, "b_Q8": 128, "c_Q8": 128}
    x = RANDOM.normal(size=(3, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"), providers=["CPUExecutionProvider"])
    expected = x @ matrices["a"] @ matrices["b"] @ matrices["c"]
    assert np.linalg.norm(session.run(None, {"x": x})[0] - expected) < 0.02 * np.linalg.norm(expected)


def test_the_root_logger_is_left_alone(tmp_path):
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    write_layer(tmp_path / "a.onnx")
    quantize_weights(tmp_path / "a.onnx", tmp_path / "q.onnx", bits=4, block_size=32)
    assert (root.handlers, root.level) == before
