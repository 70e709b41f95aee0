import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgelr.runtime.probe import open_probe, run_values, value_types


def test_values_between_the_nodes(make_tiny):
    tiny = make_tiny("dense")
    given = tiny.feeds[0]
    found = run_values(open_probe(tiny.path, ["first", "y"]), ["first", "y"], given)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tiny.path).graph.initializer}
    np.testing.assert_allclose(
        found["first"], given["x"] @ weights["encoder.first.weight"], rtol=1e-4, atol=1e-5
    )
    assert found["y"].shape == (3, 64)


def test_types_of_all_values(make_tiny):
    tiny = make_tiny("tied")
    types = value_types(tiny.path)
    assert {"table", "rows", "seen", "first", "biased", "hidden", "states", "y"} == set(types)
    assert {value.type.tensor_type.elem_type for value in types.values()} == {TensorProto.FLOAT}


def test_weights_beside_the_graph(make_tiny, tmp_path):
    tiny = make_tiny("dense")
    path = tmp_path / "outside.onnx"
    onnx.save(onnx.load(tiny.path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    one, other = (run_values(open_probe(each, []), ["y"], tiny.feeds[0])["y"] for each in (tiny.path, path))
    np.testing.assert_array_equal(one, other)


def test_scales_that_the_graph_computes_are_there(tmp_path):
    """Without optimization ONNX Runtime's MatMulNBits gives zeros for them."""
    codes = np.random.default_rng(0).integers(0, 256, (16, 2, 32), dtype=np.uint8)
    scales = np.arange(1, 33, dtype=np.int8).reshape(16, 2)
    attributes = {"K": 64, "N": 16, "bits": 8, "block_size": 32, "accuracy_level": 4}
    nodes = [
        helper.make_node("Cast", ["small"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "unit"], ["scales"]),
        helper.make_node(
            "MatMulNBits", ["x", "codes", "scales"], ["y"], domain="com.microsoft", **attributes
        ),
    ]
    constants = {"codes": codes, "small": scales, "unit": np.full((1, 1), 0.01, np.float32)}
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "head.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
    x = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    weights = (codes.astype(np.float32) - 128) * (scales * np.float32(0.01))[:, :, None]
    found = run_values(open_probe(path, ["scales"]), ["y"], {"x": x})["y"]
    right = x @ weights.reshape(16, 64).T
    # Activations have 8 bits there: an error of a few steps of 1/127; zeros would be off by 1.
    assert np.abs(found - right).max() < 0.05 * np.abs(right).max()
