"""Names, counts and bytes of a finished graph; the graphs here are written by hand."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgelr.errors import ExportError
from edgelr.export.tidy import constant_matrices, tidy
from edgelr.lowrank.graph_file import write_graph
from edgelr.tasks.task import GraphSpec

SPEC = GraphSpec(
    role="model",
    module=nn.Identity(),
    cases=(),
    dynamic_axes={},
    outputs=("embedding",),
    output_axes={"embedding": {0: "batch"}},
)


def proto(*, weight: str = "weight", inner: str = "inner") -> onnx.ModelProto:
    """Two constant matrices, one after the other, and a bias; the names of two values can be chosen."""
    draw = np.random.default_rng(0)
    weights = {weight: (4, 3), "second": (3, 2), "bias": (2,)}
    nodes = [
        helper.make_node("MatMul", ["x", weight], [inner], name="first"),
        helper.make_node("MatMul", [inner, "second"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["edgelr_output_0"]),
        helper.make_node("Relu", ["product"], ["unused"]),
    ]
    nodes[0].metadata_props.add(key="trace", value="/home/someone/model.py")
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("edgelr_output_0", TensorProto.FLOAT, ["s0", 2])],
        [
            numpy_helper.from_array(draw.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
        value_info=[helper.make_tensor_value_info(inner, TensorProto.FLOAT, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.metadata_props.add(key="made", value="today")
    model.producer_name, model.producer_version = "pytorch", "9.9"
    return model


def run(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(["embedding"], {"x": np.ones((5, 4), np.float32)})
    return np.asarray(result)


def expected() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    first, second, bias = (numpy_helper.to_array(each) for each in proto().graph.initializer)
    return np.asarray(np.ones((5, 4), np.float32) @ first @ second + bias)


def test_nothing_of_the_exporter_is_left(tmp_path: Path) -> None:
    write_graph(tidy(onnx_ir.from_proto(proto()), SPEC, 2), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "MatMul", "Add"]
    assert list(model.metadata_props) == []
    assert [list(node.metadata_props) for node in model.graph.node] == [[]] * 3
    assert list(model.graph.value_info) == []
    assert (model.producer_name, model.producer_version) == ("edgelr", "")
    assert b"someone" not in (tmp_path / "model.onnx").read_bytes()


def test_outputs_and_their_axes_have_the_names_of_the_package(tmp_path: Path) -> None:
    write_graph(tidy(onnx_ir.from_proto(proto()), SPEC, 2), tmp_path / "model.onnx")
    (output,) = onnx.load(tmp_path / "model.onnx").graph.output
    assert output.name == "embedding"
    assert output.type.tensor_type.shape.dim[0].dim_param == "batch"
    np.testing.assert_allclose(run(tmp_path / "model.onnx"), expected(), rtol=1e-6)


@pytest.mark.parametrize("taken", [{"inner": "embedding"}, {"weight": "embedding"}], ids=["value", "weight"])
def test_an_output_may_be_called_like_something_inside(tmp_path: Path, taken: dict[str, str]) -> None:
    write_graph(tidy(onnx_ir.from_proto(proto(**taken)), SPEC, 2), tmp_path / "model.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))
    np.testing.assert_allclose(run(tmp_path / "model.onnx"), expected(), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_a_lost_or_merged_layer_is_found(count: int) -> None:
    with pytest.raises(
        ExportError, match=f"multiplies by 2 constant matrices, the model by {count}"
    ) as caught:
        tidy(onnx_ir.from_proto(proto()), SPEC, count)
    assert caught.value.exit_code == 7


def test_products_of_two_values_are_not_counted() -> None:
    model = proto()
    model.graph.node.append(helper.make_node("MatMul", ["product", "edgelr_output_0"], ["scores"]))
    assert constant_matrices(model) == 2


def test_a_constant_counts_once_and_a_convolution_too() -> None:
    model = proto()
    first = model.graph.node[0]
    again = helper.make_node("MatMul", [first.output[0], first.input[1]], ["again"])
    conv = helper.make_node("Conv", ["again", "kernel"], ["convolved"])
    model.graph.node.extend([again, conv])
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 1), np.float32), "kernel"))
    assert constant_matrices(model) == 3
