import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.quantize.half import convert_to_half
from edgelr.quantize.layers import prepare_layers


@pytest.fixture
def convert(tmp_path):
    def convert(tiny, nodes=None, feeds=None):
        proto = onnx.load(tiny.path)
        prepare_layers(proto, "x.onnx")
        onnx.save(proto, tiny.path)
        target = tmp_path / "half.onnx"
        islands = convert_to_half(tiny.path, target, nodes, tiny.feeds if feeds is None else feeds)
        return target, islands

    return convert


def change(tiny, **factors):
    proto = onnx.load(tiny.path)
    for tensor in proto.graph.initializer:
        if (factor := factors.get(tensor.name.replace(".", "_"))) is not None:
            array = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, tiny.path)


def casts(path):
    return sum(node.op_type == "Cast" for node in onnx.load(path).graph.node)


def test_weights_are_halves_and_inputs_and_outputs_stay(tiny, convert):
    target, islands = convert(tiny)
    graph = onnx.load(target).graph
    assert islands == ()
    assert {t.data_type for t in graph.initializer} <= {TensorProto.FLOAT16, TensorProto.INT64}
    kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert kinds <= {TensorProto.FLOAT, TensorProto.INT64}
    assert tiny.run(target).dtype == np.float32
    assert tiny.cosine(target) > 0.99999


def test_what_overflows_is_an_island_of_fp32_without_a_way_through_fp16(make_tiny, convert):
    tiny = make_tiny("dense")
    change(tiny, encoder_first_weight=1e6, encoder_second_weight=1e-6)
    target, islands = convert(tiny)
    assert {"encoder.first", "biased", "gelu"} <= set(islands)
    assert np.isfinite(tiny.run(target)).all()
    names = {name for node in onnx.load(target).graph.node for name in node.output}
    assert {"first", "biased", "hidden"} <= names, "values are called as before"
    assert tiny.cosine(target) > 0.99999
    _, blind = convert(tiny, feeds=())
    assert "gelu" not in blind, "only data shows what overflows"


def test_a_mask_is_cut_not_kept_in_fp32(make_tiny, convert):
    tiny = make_tiny("dense")
    proto = onnx.load(tiny.path)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(-1e9, np.float32), "mask"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "nothing"))
    (second,) = (node for node in proto.graph.node if node.output[0] == "y")
    second.output[0] = "plain"
    proto.graph.node.append(helper.make_node("Mul", ["mask", "nothing"], ["masked"], name="masked"))
    proto.graph.node.append(helper.make_node("Add", ["plain", "masked"], ["y"], name="last"))
    onnx.save(proto, tiny.path)
    target, islands = convert(tiny)
    assert islands == ()
    assert tiny.cosine(target) > 0.99999


def test_one_node_alone(make_tiny, convert):
    tiny = make_tiny("dense")
    target, _ = convert(tiny, nodes=["encoder.first"])
    halves = [t.name for t in onnx.load(target).graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert halves == ["encoder.first.weight"]
    assert casts(target) <= 3  # in, out, and one that the converter leaves at the graph's output
    assert tiny.cosine(target) > 0.99999
