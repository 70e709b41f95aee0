import onnx

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
