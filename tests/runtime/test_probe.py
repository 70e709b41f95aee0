import numpy as np
import onnx
from onnx import TensorProto

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
