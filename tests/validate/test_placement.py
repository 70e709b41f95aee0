from collections.abc import Callable

import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.runtime.package import model_path
from edgelr.validate.placement import RECORD, placement_rows


def test_every_node_is_on_the_processor(make_package: Callable[..., Package], cpu: Device) -> None:
    session = open_session(model_path(make_package()), cpu, entries=RECORD)
    (row,) = placement_rows(session, variant="candidate", device="cpu-1t")
    assert (row.variant, row.device, row.provider) == ("candidate", "cpu-1t", "CPUExecutionProvider")
    assert row.nodes == 12, "the tiny graph has 12 nodes, none of which a placement-time pass removes"
    assert row.share == 1.0


class Part:
    """What ONNX Runtime gives for a part of a graph; no other provider can be run here."""

    def __init__(self, provider: str, nodes: int) -> None:
        self.ep_name, self.nodes = provider, nodes

    def get_nodes(self) -> list[int]:
        return [0] * self.nodes


class Session:
    def __init__(self, *parts: Part) -> None:
        self.parts = parts

    def get_provider_graph_assignment_info(self) -> tuple[Part, ...]:
        return self.parts


def test_shares_are_of_all_nodes_and_the_largest_is_first() -> None:
    session = Session(
        Part("CPUExecutionProvider", 1), Part("QNNExecutionProvider", 5), Part("CPUExecutionProvider", 2)
    )
    rows = placement_rows(session, variant="candidate", device="npu")  # type: ignore[arg-type]
    assert [(row.provider, row.nodes) for row in rows] == [
        ("QNNExecutionProvider", 5),
        ("CPUExecutionProvider", 3),
    ]
    assert [row.share for row in rows] == pytest.approx([5 / 8, 3 / 8])
    assert placement_rows(Session(), variant="candidate", device="npu") == ()  # type: ignore[arg-type]
