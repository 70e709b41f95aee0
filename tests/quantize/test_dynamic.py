from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.lowrank.svd import decompose
from edgelr.quantize.dynamic import quantize_matrices, unquantized_matrices


def test_every_matrix_is_quantized_per_channel(built, tmp_path):
    for source in (built / ".store" / "export").glob("*/model.onnx"):
        target = tmp_path / "q.onnx"
        quantize_matrices(source, target)
        before, after = onnx.load(source), onnx.load(target)
        assert unquantized_matrices(before)
        assert unquantized_matrices(after) == []
        matrices = sum(node.op_type == "MatMul" for node in before.graph.node)
        assert sum(node.op_type == "MatMulInteger" for node in after.graph.node) == matrices
        scales = [tensor for tensor in after.graph.initializer if tensor.name.endswith("_scale")]
        assert all(len(tensor.dims) == 1 and tensor.dims[0] > 1 for tensor in scales)


def write_layers(path: Path, matrices: dict[str, np.ndarray]) -> None:
    """``y = x first second ...``"""
    names = ["x", *(f"h{number}" for number in range(len(matrices) - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [before, matrix], [after])
        for before, matrix, after in zip(names[:-1], matrices, names[1:], strict=True)
    ]
    first, *_, last = matrices.values()
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", first.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", last.shape[1]])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in matrices.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.mark.parametrize("kind", ["factors", "same sign"])
def test_a_factored_graph_survives_on_this_processor(tmp_path, kind):
    """Full-range weights of one sign saturate where pairs of 8-bit products are added in 16 bits."""
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 256)).astype(np.float32)
    if kind == "factors":
        x += 1
        factors = decompose(random.normal(size=(256, 256)) + 0.5, x.T @ x.astype(np.float64)).truncated(32)
        matrices = {"down": factors.down.T, "up": factors.up.T}
    else:
        x = np.abs(x) + 3  # nearly constant, so that it is at the top of its range
        matrices = {"one": random.uniform(0.9, 1, (256, 64)), "two": random.uniform(0.9, 1, (64, 32))}
    write_layers(tmp_path / "fp32.onnx", matrices)
    quantize_matrices(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    before, after = (
        onnxruntime.InferenceSession(tmp_path / name).run(None, {"x": x})[0]
        for name in ("fp32.onnx", "int8.onnx")
    )
    cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosines.min() > 0.98
    # A sum that saturated has the right direction where all of it did: it is too small.
    assert np.abs(after - before).max() < 0.1 * np.abs(before).max()


def test_no_pair_of_weights_saturates_and_eight_bits_are_used(built, tmp_path):
    source = next((built / ".store" / "export").glob("*/model.onnx"))
    quantize_matrices(source, tmp_path / "q.onnx")
    weights = [
        numpy_helper.to_array(tensor).astype(int)
        for tensor in onnx.load(tmp_path / "q.onnx").graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2
    ]
    assert len(weights) >= 12
    for weight in weights:
        one, other = weight[0 : len(weight) // 2 * 2 : 2], weight[1::2]
        assert (np.abs(one + other)[one * other > 0] <= 128).all()
    assert max(int(np.abs(weight).max()) for weight in weights) > 100
