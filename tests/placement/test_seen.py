"""What a provider sees of a graph."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.errors import UnsupportedModelError
from edgelr.placement.seen import seen_graph
from edgelr.runtime.package import model_path


@pytest.fixture
def path(make_package: Callable[..., Package]) -> Path:
    return model_path(make_package())


def test_open_axes_stay_open(path: Path) -> None:
    nodes = {node.operator: node for node in seen_graph(path, {})}
    table, ids = nodes["Gather"].inputs
    assert table is not None
    assert ids is not None
    assert (table.constant, table.fixed, table.dtype) == (True, True, "float")
    assert (ids.constant, ids.fixed, ids.dtype, ids.shape) == (False, False, "int64", (None, None))


def test_fixed_sizes_reach_every_value(path: Path) -> None:
    nodes = seen_graph(path, {"batch": 2, "tokens": 7})
    values = [value for node in nodes for value in (*node.inputs, *node.outputs) if value is not None]
    assert all(value.fixed and value.dtype for value in values)
    gathered = next(node for node in nodes if node.operator == "Gather").outputs[0]
    assert gathered is not None
    assert gathered.shape is not None
    assert gathered.shape[:2] == (2, 7)


def test_operators_of_onnx_runtime_itself_are_named_with_their_domain(path: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Gelu", ["x"], ["y"], name="gelu", domain="com.microsoft")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in ("x", "z")]
    inner = helper.make_node("Relu", ["y"], ["z"])
    graph = helper.make_graph([node, inner], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "own.onnx")
    gelu, relu = seen_graph(tmp_path / "own.onnx", {"rows": 3})
    assert (gelu.operator, relu.operator) == ("com.microsoft:Gelu", "Relu")
    assert relu.inputs[0] is not None
    assert relu.inputs[0].shape == (3, 4), "inferred through an operator that ONNX does not know"


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"no model")
    with pytest.raises(UnsupportedModelError, match=r"odd\.onnx: ONNX Runtime cannot read"):
        seen_graph(tmp_path / "odd.onnx", {})
