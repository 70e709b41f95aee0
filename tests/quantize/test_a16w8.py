import numpy as np
import onnx
from onnx import numpy_helper

from edgelr.quantize.a16w8 import quantize_wide


def test_activations_have_16_bits_and_weights_8(make_tiny, tmp_path):
    tiny = make_tiny("factored")
    nodes = [node.name for node in onnx.load(tiny.path).graph.node if node.op_type == "MatMul"]
    quantize_wide(tiny.path, tmp_path / "q.onnx", nodes, tiny.feeds, "minmax")
    graph = onnx.load(tmp_path / "q.onnx").graph
    zeros = {
        t.name: numpy_helper.to_array(t).dtype for t in graph.initializer if t.name.endswith("zero_point")
    }
    assert zeros["x_zero_point"] == np.uint16
    assert zeros["encoder.first.down.weight_zero_point"] == np.int8
    assert "y_zero_point" in zeros, "outputs are quantized too"
    assert tiny.cosine(tmp_path / "q.onnx") > 0.9998
