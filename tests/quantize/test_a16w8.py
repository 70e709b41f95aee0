import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from edgelr.device.load import load_devices
from edgelr.device.session import open_session
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


def test_a_session_computes_16_bits_and_not_8(make_tiny, tmp_path):
    tiny = make_tiny("dense")
    nodes = [node.name for node in onnx.load(tiny.path).graph.node if node.op_type == "MatMul"]
    path = tmp_path / "q.onnx"
    quantize_wide(tiny.path, path, nodes, tiny.feeds, "minmax")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    as_written = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    as_usual = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ours = open_session(path, load_devices()["cpu-1t"])
    right, other, found = (
        each.run(["y"], tiny.feeds[0])[0].astype(np.float64) for each in (as_written, as_usual, ours)
    )
    # Of 16 bits a step is 1.5e-5 of the range, of 8 it is 4e-3.
    assert np.linalg.norm(found - right) < 1e-4 * np.linalg.norm(right)
    assert np.linalg.norm(other - right) > 1e-3 * np.linalg.norm(right), "else this test shows nothing"
