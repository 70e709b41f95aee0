from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelr.artifacts import Package, Tensor
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.graph import check_external_data, describe_graph, graph_bytes, run_graph


def external(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def save_with(path: Path, tensor: onnx.TensorProto, where: str) -> None:
    """A graph with ``tensor`` as a weight, in an attribute, or in the branch of an If."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    if where == "branch":
        branch = helper.make_graph([constant], "branch", [], [value])
        condition = helper.make_node(
            "Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])
        )
        choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([condition, choice], "g", [], [value])
    elif where == "attribute":
        graph = helper.make_graph([constant], "g", [], [value])
    else:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["weight"], ["y"])], "g", [], [value], [tensor]
        )
    path.write_bytes(helper.make_model(graph).SerializeToString())


def test_it_says_what_goes_in_and_out(make_package: Callable[..., Package]) -> None:
    graph = describe_graph(make_package().folder / "model.onnx")
    assert graph.file == "model.onnx"
    assert graph.inputs == (
        Tensor(name="input_ids", dtype="int64", shape=("batch", "tokens")),
        Tensor(name="attention_mask", dtype="int64", shape=("batch", "tokens")),
    )
    assert graph.outputs == (Tensor(name="embedding", dtype="float", shape=("batch", 16)),)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"])
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=r"model\.onnx"):
        describe_graph(tmp_path / "model.onnx")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match=r"gone\.onnx cannot be read"):
        describe_graph(tmp_path / "gone.onnx")


@pytest.mark.parametrize("where", ["weight", "attribute", "branch"])
@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "unlisted.data"])
def test_weights_elsewhere_are_refused_wherever_they_hide(tmp_path: Path, where: str, location: str) -> None:
    save_with(tmp_path / "model.onnx", external(location), where)
    with pytest.raises(DamagedArtifactError, match=f"'weight' is in '{location}'"):
        check_external_data(tmp_path / "model.onnx", ["model.onnx", "model.onnx.data"])


def test_weights_beside_the_model_are_fine(tmp_path: Path) -> None:
    save_with(tmp_path / "model.onnx", external("model.onnx.data"), "weight")
    check_external_data(tmp_path / "model.onnx", ["model.onnx", "model.onnx.data"])


def test_running_gives_outputs_by_name(make_package: Callable[..., Package], cpu: Device) -> None:
    session = open_session(make_package().folder / "model.onnx", cpu, entries={})
    ones = np.ones((2, 3), np.int64)
    results = run_graph(session, {"input_ids": ones, "attention_mask": ones, "not_needed": ones})
    assert results["embedding"].shape == (2, 16)


def test_a_graph_that_needs_more_or_fails_is_named(make_package: Callable[..., Package], cpu: Device) -> None:
    session = open_session(make_package().folder / "model.onnx", cpu, entries={})
    ones = np.ones((2, 3), np.int64)
    with pytest.raises(UnsupportedModelError, match="attention_mask"):
        run_graph(session, {"input_ids": ones})
    with pytest.raises(UnsupportedModelError, match=r"input_ids \[2, 3\]"):
        run_graph(session, {"input_ids": ones * 10_000, "attention_mask": ones})


def test_bytes_are_those_of_the_graph_and_its_weights_and_of_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_with(path, external("weights.bin"), "weight")
    with pytest.raises(DamagedArtifactError, match=r"m\.onnx: its weights cannot be read"):
        graph_bytes(path)
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    (tmp_path / "m.onnx.bak").write_bytes(bytes(5000))
    assert graph_bytes(path) == path.stat().st_size + 100
