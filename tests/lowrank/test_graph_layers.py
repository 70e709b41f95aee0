import numpy as np
import onnx
import pytest
from graph_models import FLOAT, model, network, random, write
from onnx import helper, numpy_helper

from edgelr.lowrank.graph_file import read_graph
from edgelr.lowrank.graph_layers import attribute, dtype_of, find_layers, parameters, stored, weight_of


def found(proto, tmp_path):
    read = read_graph(write(proto, tmp_path))
    return read, find_layers(read)


def test_the_layers_of_a_network_by_names_that_a_person_knows(tmp_path):
    proto, layers = found(network(), tmp_path)
    assert layers.skipped == ()
    assert {name: [layer.name for layer in each] for name, each in layers.layers.items()} == {
        "table": ["embed"],
        "kernel": ["conv"],
        "q.weight": ["attention.q"],
        "k.weight": ["attention.k"],
        "twice.weight": ["first", "second"],
        "head.weight": ["head"],
    }
    kinds = {name: each[0].kind for name, each in layers.layers.items()}
    assert (kinds["table"], kinds["kernel"], kinds["q.weight"], kinds["head.weight"]) == (
        "embedding",
        "conv",
        "transposed-linear",
        "linear",
    )
    assert layers.layers["head.weight"][0].bias == "head.bias"
    assert {node.name for node in proto.graph.node} >= {"embed", "attention.q", "head"}
    assert len({node.name for node in proto.graph.node}) == len(proto.graph.node)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_matrix_goes_back_to_where_it_came_from(tmp_path, dtype):
    proto, layers = found(network(dtype=dtype), tmp_path)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, each in layers.layers.items():
        array = numpy_helper.to_array(tensors[name])
        weight = weight_of(each[0], tensors[name])
        np.testing.assert_array_equal(stored(each[0], weight.matrix(), tensors[name]), array)
        assert dtype_of(tensors[name]) == dtype
    head = weight_of(layers.layers["head.weight"][0], tensors["head.weight"])
    assert head.matrix().shape == (20, 24)


def test_a_spatial_matrix_goes_back_too(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], strides=[1, 2])]
    shapes = ({"x": (FLOAT, [1, 3, 8, 8])}, {"y": (FLOAT, None)})
    proto, layers = found(model(nodes, *shapes, {"w": random(5, 3, 2, 4)}), tmp_path)
    (layer,), (tensor,) = layers.layers["w"], proto.graph.initializer
    weight = weight_of(layer, tensor)
    again = stored(layer, weight.matrix("spatial"), tensor, "spatial")
    np.testing.assert_array_equal(again, numpy_helper.to_array(tensor))
    assert layer.stride == (1, 2)


def test_numbers_are_counted_once(tmp_path):
    proto = network()
    assert parameters(proto) == sum(int(np.prod(tensor.dims)) for tensor in proto.graph.initializer)


def conv(groups: int = 1, axes: int = 1):
    shape = (4, 4 // groups, *[2] * axes)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="odd", group=groups)
    return [node], {"x": (FLOAT, [1, 4, *[6] * axes])}, {"w": random(*shape)}


def product(**changes):
    rest = {"x": (FLOAT, ["b", 4])}
    return {
        "left": ([helper.make_node("MatMul", ["w", "x"], ["y"], name="odd")], rest, {"w": random(3, 4)}),
        "stack": ([helper.make_node("MatMul", ["x", "w"], ["y"], name="odd")], rest, {"w": random(2, 4, 3)}),
        "turned": (
            [helper.make_node("Gemm", ["x", "w"], ["y"], name="odd", transA=1)],
            rest,
            {"w": random(4, 3)},
        ),
        "columns": (
            [
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("Gather", ["w", "s"], ["y"], name="odd", axis=1),
            ],
            rest,
            {"w": random(4, 30)},
        ),
        "position": ([helper.make_node("Add", ["x", "w"], ["y"], name="odd")], rest, {"w": random(3, 4)}),
        "two kinds": (
            [
                helper.make_node("MatMul", ["x", "w"], ["h"], name="odd"),
                helper.make_node("Gemm", ["h", "w"], ["y"], transB=1),
            ],
            rest,
            {"w": random(4, 4)},
        ),
        "both": (
            [helper.make_node("MatMul", ["v", "w"], ["y"], name="odd")],
            rest,
            {"v": random(3, 4), "w": random(4, 3)},
        ),
    }[changes["case"]]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (conv(groups=2), "its 2 groups of channels are not one matrix"),
        (conv(axes=3), "a convolution along 3 axes"),
        (product(case="left"), "MatMul has its constant on the left"),
        (product(case="stack"), "a stack of matrices, 3 axes"),
        (product(case="turned"), "its Gemm turns what it reads"),
        (product(case="columns"), "it looks up no rows of a matrix"),
        (product(case="position"), "Add is no product with a matrix"),
        (product(case="two kinds"), "layers of several kinds share its weight"),
        (product(case="both"), "both sides of its MatMul are constant"),
    ],
)
def test_what_is_left_dense_has_its_reason(tmp_path, case, reason):
    nodes, inputs, constants = case
    _, layers = found(model(nodes, inputs, {"y": (FLOAT, None)}, constants), tmp_path)
    assert layers.layers == {}
    assert (layers.skipped[0].name, layers.skipped[0].reason) == ("odd", reason)


def test_branches_stay_as_they_are(tmp_path):
    def branch(name, weight):
        node = helper.make_node("MatMul", ["x", weight], [f"{name}.y"])
        given = [helper.make_tensor_value_info(f"{name}.y", FLOAT, None)]
        held = [numpy_helper.from_array(random(4, 3), "own")] if weight == "own" else []
        return helper.make_graph([node], name, [], given, held)

    node = helper.make_node(
        "If", ["yes"], ["y"], name="which", then_branch=branch("a", "own"), else_branch=branch("b", "outer")
    )
    other = helper.make_node("MatMul", ["x", "outer"], ["z"], name="outside")
    inputs = {"x": (FLOAT, ["b", 4]), "yes": (onnx.TensorProto.BOOL, [])}
    outputs = {"y": (FLOAT, None), "z": (FLOAT, None)}
    proto, layers = found(model([node, other], inputs, outputs, {"outer": random(4, 3)}), tmp_path)
    reason = "inside If 'which': branches and loops stay as they are"
    assert layers.layers == {}
    assert {(left.name, left.reason) for left in layers.skipped} == {
        ("outside", "a branch, a loop or an output of the graph has it too"),
        ("own", reason),
        ("outer", reason),
    }
    assert parameters(proto) == 24


def test_an_attribute_or_its_default():
    node = helper.make_node("Gather", ["a", "b"], ["c"], axis=1)
    assert (attribute(node, "axis", 0), attribute(node, "other", 7)) == (1, 7)
