import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgelr.quantize.static import quantize_static_matrices

NODES = ["encoder.first", "encoder.second"]


def test_inputs_have_one_scale_and_weights_one_a_channel(make_tiny, tmp_path):
    tiny = make_tiny("dense")
    quantize_static_matrices(tiny.path, tmp_path / "q.onnx", NODES, tiny.feeds, "minmax")
    graph = onnx.load(tmp_path / "q.onnx").graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) == len(NODES), "outputs stay fp32"
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weight = tensors["encoder.first.weight_quantized"]
    assert weight.dtype == np.int8
    assert 64 < np.abs(weight.astype(int)).max() <= 127
    assert tensors["encoder.first.weight_scale"].shape == (160,)
    assert tensors["x_scale"].shape == ()
    assert tensors["x_zero_point"].dtype == np.uint8


def test_only_the_named_nodes(make_tiny, tmp_path):
    tiny = make_tiny("dense")
    quantize_static_matrices(tiny.path, tmp_path / "q.onnx", NODES[:1], tiny.feeds, "minmax")
    floats = [
        t.name for t in onnx.load(tmp_path / "q.onnx").graph.initializer if t.data_type == TensorProto.FLOAT
    ]
    assert "encoder.second.weight" in floats
    assert "encoder.first.weight" not in floats


def test_the_range_is_that_of_all_calls(make_tiny, tmp_path):
    tiny = make_tiny("dense")
    scales = []
    for feeds in (tiny.feeds[:1], tiny.feeds):
        quantize_static_matrices(tiny.path, tmp_path / "q.onnx", NODES, feeds, "minmax")
        graph = onnx.load(tmp_path / "q.onnx").graph
        scales.append(next(numpy_helper.to_array(t) for t in graph.initializer if t.name == "x_scale"))
    values = np.concatenate([given["x"].ravel() for given in tiny.feeds])
    assert scales[0] < scales[1]
    np.testing.assert_allclose(scales[1], (values.max() - values.min()) / 255, rtol=1e-5)


def test_values_that_were_not_seen_are_cut_off(make_tiny, tmp_path):
    tiny = make_tiny("dense")
    small = [{"x": given["x"] * 0.1} for given in tiny.feeds]
    quantize_static_matrices(tiny.path, tmp_path / "q.onnx", NODES, small, "minmax")
    assert tiny.cosine(tmp_path / "q.onnx") < 0.99
