"""Files as exporters write them become one shape, and compute what they did."""

import numpy as np
import onnx
import pytest
from graph_models import FLOAT, model, network, network_calls, random, run, write
from onnx import helper, numpy_helper

from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.lowrank.graph_file import open_graph, read_graph, write_graph


def same(before, after, calls=None):
    for call in calls or network_calls(2):
        for one, other in zip(run(before, call), run(after, call), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_what_is_read_and_written_computes_the_same(tmp_path, opset):
    path = write(network(opset), tmp_path)
    write_graph(read_graph(path), tmp_path / "again.onnx")
    same(path, tmp_path / "again.onnx")


@pytest.mark.parametrize("opset", range(11, 26))
def test_every_opset(tmp_path, opset):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    proto = model(nodes, {"x": (FLOAT, ["b", 4])}, {"y": (FLOAT, ["b", 3])}, {"w": random(4, 3)}, opset=opset)
    path = write(proto, tmp_path)
    write_graph(read_graph(path), tmp_path / "again.onnx")
    same(path, tmp_path / "again.onnx", [{"x": random(2, 4)}])


def test_weights_in_a_file_of_their_own(tmp_path):
    proto, path = network(), tmp_path / "outside.onnx"
    plain = write(network(), tmp_path)
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    write_graph(read_graph(path), tmp_path / "again.onnx")
    same(plain, tmp_path / "again.onnx")
    (tmp_path / "w.bin").unlink()
    with pytest.raises(UnsupportedModelError, match=r"w\.bin"):
        read_graph(path)


def test_constants_of_all_sorts_are_initializers(tmp_path):
    weight = random(6, 8)
    nodes = [
        helper.make_node("Constant", [], ["made"], value=numpy_helper.from_array(weight, "x")),
        helper.make_node("Identity", ["kept"], ["named"]),
        helper.make_node("Transpose", ["named"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "made"], ["h"]),
        helper.make_node("MatMul", ["h", "turned"], ["y"]),
    ]
    proto = model(nodes, {"x": (FLOAT, ["b", 6])}, {"y": (FLOAT, ["b", 5])}, {"kept": random(5, 8)})
    proto.graph.input.append(helper.make_tensor_value_info("kept", FLOAT, [5, 8]))  # as before IR version 4
    proto.ir_version = 3
    found = read_graph(write(proto, tmp_path))
    assert [node.op_type for node in found.graph.node] == ["MatMul", "MatMul"]
    assert {tensor.name: list(tensor.dims) for tensor in found.graph.initializer} == {
        "made": [6, 8],
        "turned": [8, 5],
    }
    assert [value.name for value in found.graph.input] == ["x"]
    write_graph(found, tmp_path / "again.onnx")
    proto.ir_version = 8
    call = {"x": random(3, 6)}
    same(write(proto, tmp_path), tmp_path / "again.onnx", [call])


def test_a_large_graph_has_its_weights_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("edgelr.lowrank.graph_file.EXTERNAL_FROM_BYTES", 1000)
    path = write(network(), tmp_path)
    write_graph(read_graph(path), tmp_path / "again.onnx")
    size = (tmp_path / "again.onnx.data").stat().st_size
    assert size > 4000
    same(path, tmp_path / "again.onnx")
    write_graph(read_graph(tmp_path / "again.onnx"), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx.data").stat().st_size == size, "not appended to what was there"
    same(path, tmp_path / "again.onnx")
    monkeypatch.undo()
    write_graph(read_graph(path), tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx.data").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no protobuf at all", "is no ONNX model"), (b"", "is no ONNX model"), (b"\x08\x08", "no nodes")],
)
def test_what_is_no_model(tmp_path, content, message):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=message):
        read_graph(path)


@pytest.mark.parametrize("opset", [9, 99])
def test_an_opset_that_nobody_knows(tmp_path, opset):
    with pytest.raises(UnsupportedModelError, match=f"has opset {opset}; 11 to 25 are known"):
        read_graph(write(network(opset), tmp_path))


def test_weights_outside_of_its_folder(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "model.onnx"
    proto = network()
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../w.bin" if entry.key == "location" else entry.value
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedModelError, match="outside of its folder"):
        read_graph(path)


def test_operators_that_the_runtime_has_not(tmp_path):
    nodes = [helper.make_node("Odd", ["x"], ["y"], domain="my.operators")]
    opsets = (helper.make_opsetid("my.operators", 1),)
    proto = model(nodes, {"x": (FLOAT, [3])}, {"y": (FLOAT, [3])}, {}, extra_opsets=opsets)
    with pytest.raises(MissingRequirementError, match=r"operators that this ONNX Runtime has not.*Odd"):
        open_graph(write(proto, tmp_path))


def test_a_graph_that_makes_no_sense(tmp_path):
    proto = model(
        [helper.make_node("Relu", ["nothing"], ["y"])], {"x": (FLOAT, [3])}, {"y": (FLOAT, [3])}, {}
    )
    with pytest.raises(UnsupportedModelError, match="cannot load it"):
        open_graph(write(proto, tmp_path))
