import onnx
import pytest
from onnx import helper

from edgelr.errors import QuantizeError
from edgelr.quantize.layers import prepare_layers
from edgelr.runtime.subgraphs import drop_unread


def test_layers_of_every_form(tiny):
    proto = onnx.load(tiny.path)
    found = {(layer.name, layer.kind, layer.matrix) for layer in prepare_layers(proto, "x.onnx")}
    products = {
        (node.name, "product", node.input[1]) for node in proto.graph.node if node.op_type == "MatMul"
    }
    tables = {("embedding", "table", "head.weight")} if "tied" in tiny.path.name else set()
    assert found == products | tables
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names)


def test_nodes_without_a_name_are_called_as_their_matrix(make_tiny):
    tiny = make_tiny("dense")
    proto = onnx.load(tiny.path)
    for node in proto.graph.node:
        node.name = ""
    assert [layer.name for layer in prepare_layers(proto, "x.onnx")] == ["encoder.first", "encoder.second"]
    assert all(node.name for node in proto.graph.node)


def test_the_same_name_twice_gets_a_number(make_tiny):
    tiny = make_tiny("factored")
    proto = onnx.load(tiny.path)
    for node in proto.graph.node:
        node.name = "encoder.layer"
    names = [layer.name for layer in prepare_layers(proto, "x.onnx")]
    assert names[0] == "encoder.layer"
    assert len(set(names)) == len(names) == 4
    assert all(name.startswith("encoder.layer:") for name in names[1:])


def test_what_torch_notes_about_a_node_is_its_name(make_tiny):
    proto = onnx.load(make_tiny("dense").path)
    entry = proto.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'model.encoder.fc1', 'linear']"
    assert prepare_layers(proto, "x.onnx")[0].name == "encoder.fc1"


def test_a_fused_graph_is_named_with_what_is_fused(make_tiny):
    proto = onnx.load(make_tiny("dense").path)
    proto.graph.node[0].op_type = "Attention"
    with pytest.raises(QuantizeError, match=r"x.onnx is fused already: 1 nodes \(Attention\)"):
        prepare_layers(proto, "x.onnx")


def test_constants_that_nothing_reads_go(make_tiny):
    proto = onnx.load(make_tiny("dense").path)
    del proto.graph.node[-1]
    proto.graph.node.append(helper.make_node("Identity", ["hidden"], ["y"]))
    drop_unread(proto.graph)
    assert {tensor.name for tensor in proto.graph.initializer} == {"bias", "encoder.first.weight"}
