"""Rows of who runs what."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.placement.placed import CPU, Placed
from edgelr.runtime.package import model_path
from edgelr.validate.placement import (
    RECORD,
    analyzed_graphs,
    beside_note,
    fallback_rows,
    placement_rows,
    recorded_graphs,
    sizes_of,
)

QNN = "QNNExecutionProvider"


def node(provider: str, macs: int, part: int | None = None, reason: str | None = None) -> Placed:
    return Placed(name=f"n{macs}", operator="Erf", provider=provider, macs=macs, part=part, reason=reason)


@pytest.fixture
def npu() -> Device:
    return load_devices()["qnn-htp-emulator"]


def test_every_node_is_on_the_processor(make_package: Callable[..., Package], cpu: Device) -> None:
    package = make_package()
    sessions = {"model": open_session(model_path(package), cpu, entries=RECORD)}
    graphs = recorded_graphs(package, cpu, sessions)
    (row,) = placement_rows(graphs, variant="candidate", device=cpu)
    assert (row.variant, row.device, row.provider, row.evidence) == ("candidate", "cpu-1t", CPU, "run")
    assert row.nodes == 12, "the tiny graph has 12 nodes, none of which a placement-time pass removes"
    assert (row.share, row.macs_share, row.partitions) == (1.0, 1.0, None)
    assert fallback_rows(graphs, variant="candidate", device="cpu-1t") == ()


def test_shares_are_of_all_graphs_and_the_largest_is_first(npu: Device) -> None:
    graphs = [
        [node(QNN, 60, 0), node(CPU, 10, None, "too odd"), node(QNN, 10, 2)],
        [node(QNN, 0, 0), node(CPU, 20, None, "too dear")],
    ]
    rows = placement_rows(graphs, variant="candidate", device=npu)
    assert [(row.provider, row.nodes, row.share, row.macs_share, row.partitions) for row in rows] == [
        (QNN, 3, 3 / 5, 0.7, 3),
        (CPU, 2, 2 / 5, 0.3, None),
    ]
    fallen = fallback_rows(graphs, variant="candidate", device="npu")
    assert [(row.node, row.macs_share, row.reason) for row in fallen] == [
        ("n20", 0.2, "too dear"),
        ("n10", 0.1, "too odd"),
    ]


def test_a_provider_that_takes_nothing_has_a_row(npu: Device) -> None:
    rows = placement_rows([[node(CPU, 0, None, "no")]], variant="candidate", device=npu)
    assert [(row.provider, row.nodes, row.macs_share) for row in rows] == [(CPU, 1, None), (QNN, 0, None)]
    assert placement_rows([], variant="candidate", device=npu) == ()


@pytest.mark.parametrize("name", ["ios-coreml", "android-nnapi", "android-xnnpack"])
def test_a_static_device_is_analyzed(name: str, make_package: Callable[..., Package]) -> None:
    device = load_devices()[name]
    graphs = analyzed_graphs(make_package(), device)
    own, *_ = (
        row for row in placement_rows(graphs, variant="candidate", device=device) if row.provider != CPU
    )
    assert (own.provider, own.evidence, own.macs_share) == (device.provider, "static", 1.0)
    assert own.nodes >= 1
    reasons = [row.reason for row in fallback_rows(graphs, variant="candidate", device=name)]
    assert len(reasons) == len(graphs[0]) - own.nodes
    assert "operator ReduceL2 is not supported" in reasons


def test_a_provider_without_rules_is_not_analyzed(make_package: Callable[..., Package], npu: Device) -> None:
    assert analyzed_graphs(make_package(), replace(npu, evidence="static")) == []


def test_sizes_are_fixed_where_the_device_wants_them(
    make_package: Callable[..., Package], npu: Device, cpu: Device
) -> None:
    package = make_package()
    assert sizes_of(package, npu) == {"batch": 1, "tokens": package.settings["max_tokens"]}
    assert sizes_of(package, cpu) == {}


def test_what_makes_features_of_sound_runs_beside_an_npu(
    dense_speech: Package, cpu: Device, npu: Device
) -> None:
    assert beside_note(dense_speech, cpu) is None
    note = beside_note(dense_speech, npu)
    assert note is not None
    assert note.startswith("features.onnx stays fp32 and runs on the CPU beside qnn-htp-emulator, 0.")
    assert note.endswith(" of the work of a window and a token; placement is that of the other graphs")
    sessions = {role: open_session(model_path(dense_speech, role), cpu, entries=RECORD)
                for role in dense_speech.graphs}  # fmt: skip
    assert len(recorded_graphs(dense_speech, cpu, sessions)) == 3
    assert len(recorded_graphs(dense_speech, npu, sessions)) == 2
