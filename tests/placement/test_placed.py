"""Nodes with their provider, recorded and analyzed."""

from collections.abc import Callable

import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.placement.operators import ANALYZED
from edgelr.placement.placed import CPU, analyzed, recorded
from edgelr.placement.seen import Node, Value, seen_graph
from edgelr.runtime.package import model_path
from edgelr.validate.placement import RECORD


def test_what_ran_here_is_recorded_with_its_cost(make_package: Callable[..., Package], cpu: Device) -> None:
    path = model_path(make_package())
    nodes = recorded(open_session(path, cpu, entries=RECORD), seen_graph(path, {}), CPU)
    assert len(nodes) == 12
    assert {(node.provider, node.part, node.reason) for node in nodes} == {(CPU, None, None)}
    assert [node.operator for node in nodes if node.macs] == ["MatMul"]


@pytest.mark.parametrize("provider", ANALYZED)
def test_what_is_analyzed_is_in_a_part_or_has_a_reason(
    provider: str, make_package: Callable[..., Package]
) -> None:
    nodes = analyzed(seen_graph(model_path(make_package()), {"batch": 1, "tokens": 8}), ANALYZED[provider])
    assert {node.provider for node in nodes} == {provider, CPU}
    for node in nodes:
        assert (node.provider == CPU) == (node.part is None) == (node.reason is not None)


class Part:
    """What ONNX Runtime gives for a part of a graph; no other provider can be run here."""

    def __init__(self, provider: str, *names: str) -> None:
        self.ep_name, self.names = provider, names

    def get_nodes(self) -> list["Recorded"]:
        return [Recorded(name) for name in self.names]


class Recorded:
    domain, op_type = "com.microsoft", "Gelu"

    def __init__(self, name: str) -> None:
        self.name = name


class Session:
    def get_provider_graph_assignment_info(self) -> list[Part]:
        return [Part("QNNExecutionProvider", "a", "b"), Part(CPU, "c"), Part("QNNExecutionProvider", "d")]


def test_what_the_devices_provider_did_not_take_has_a_reason() -> None:
    nodes = recorded(Session(), (), "QNNExecutionProvider")  # type: ignore[arg-type]
    assert [(node.name, node.part, node.reason) for node in nodes] == [
        ("a", 0, None),
        ("b", 0, None),
        ("c", None, "QNNExecutionProvider does not take it"),
        ("d", 2, None),
    ]
    assert nodes[0].operator == "com.microsoft:Gelu"


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        ("QNNExecutionProvider", "QNNExecutionProvider does not take com.microsoft:Gelu of double [1, ?, 8]"),
        ("CoreMLExecutionProvider", "operator com.microsoft:Gelu is not supported"),
    ],
)
def test_a_reason_says_what_the_node_is_like_or_what_the_rules_say(provider: str, reason: str) -> None:
    values = Value(name="x", dtype="double", shape=(1, None, 8)), Value(name="y", dtype="", shape=None)
    node = Node(name="c", operator="com.microsoft:Gelu", inputs=(values[0], None), outputs=(values[1],))
    found = recorded(Session(), (node,), provider)  # type: ignore[arg-type]
    assert {each.name: each.reason for each in found}["c"] == reason
