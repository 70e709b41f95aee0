"""A graph behind messages, against the session that answers them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.prepared import missing
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.runners.remote import RemoteGraph
from edgelr.runtime.package import model_path
from edgelr.runtime.translate import open_translator, translate


@pytest.fixture
def session(make_package: Callable[..., Package], cpu: Device) -> Any:
    return open_session(model_path(make_package()), cpu)


@pytest.fixture
def graph(session: Any) -> RemoteGraph:
    def ask(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
        assert header["do"] == "run"
        return {}, dict(zip(header["names"], session.run(header["names"], dict(arrays)), strict=True))

    rows = {
        key: [[each.name, each.type, each.shape] for each in found]
        for key, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    return RemoteGraph(ask, {**rows, "parts": [["CPUExecutionProvider", [["", "a", "MatMul"]]]]})


FEEDS = {"input_ids": np.array([[1, 2, 3]]), "attention_mask": np.array([[1, 1, 0]])}


def test_it_tells_and_gives_what_the_session_does(graph: RemoteGraph, session: Any) -> None:
    assert [(each.name, each.type) for each in graph.get_inputs()] == [
        ("input_ids", "tensor(int64)"),
        ("attention_mask", "tensor(int64)"),
    ]
    assert [each.name for each in graph.get_outputs()] == ["embedding"]
    np.testing.assert_array_equal(graph.run(None, FEEDS)[0], session.run(None, FEEDS)[0])
    (part,) = graph.get_provider_graph_assignment_info()
    assert (part.ep_name, part.get_nodes()[0].op_type) == ("CPUExecutionProvider", "MatMul")


def test_values_are_bound_by_name(graph: RemoteGraph, session: Any) -> None:
    expected = session.run(None, FEEDS)[0]
    binding = graph.io_binding()
    for name, array in FEEDS.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    binding.bind_output("embedding")
    graph.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), expected)
    mine = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(expected))
    binding.bind_ortvalue_output("embedding", mine)
    graph.run_with_iobinding(binding)
    np.testing.assert_array_equal(mine.numpy(), expected)


@pytest.mark.parametrize("name", ["raspberry-pi-4", "web-wasm"])
def test_texts_are_written_there_as_here(name: str, translation_package: Package, cpu: Device) -> None:
    device = load_devices()[name]
    if (lacking := missing(device)) is not None:
        pytest.skip(lacking.command)
    texts = ["copy a file", "parse rows of a table"]
    here, there = (
        list(translate(open_translator(translation_package, each), texts, beams=2)) for each in (cpu, device)
    )
    assert there == here
