import re
from dataclasses import replace
from typing import Any

import pytest

from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.recipe.gates import Gate, LatencyGate, MetricGate, PlacementGate, SizeGate
from edgelr.recipe.schema import Validation
from edgelr.validate.gates import Measurements, check_gates, evaluate_gates
from edgelr.verdict import AccuracyRow, GateRow, LatencyRow, PlacementRow


def accuracy(variant: str, value: float, device: str = "cpu-1t") -> AccuracyRow:
    return AccuracyRow(variant=variant, device=device, metric="mrr@10", value=value, ci95=(0, 1), examples=9)


def latency(variant: str, tokens: int, p90_ms: float, device: str = "cpu-1t") -> LatencyRow:
    return LatencyRow(
        variant=variant,
        device=device,
        evidence="run",
        shape=f"1 x {tokens} tokens",
        p50_ms=p90_ms / 2,
        p90_ms=p90_ms,
        p99_ms=p90_ms * 2,
        runs=100,
        peak_bytes=1,
        threads=1,
    )


MEASURED = Measurements(
    accuracy=(
        accuracy("dense-fp32", 0.80),
        accuracy("candidate", 0.75),
        accuracy("candidate", 0.81, "cpu-4t"),
    ),
    latency=(
        latency("dense-int8", 16, 2.0),
        latency("dense-int8", 64, 8.0),
        latency("candidate", 16, 1.5),
        latency("candidate", 64, 4.0),
    ),
    sizes={"dense-fp32": 80_000_000, "candidate": 20_000_000},
    reference={"mrr@10": 0.82},
)


def one(gate: Gate) -> GateRow:
    (row,), notes = evaluate_gates([gate], MEASURED)
    assert notes == ()
    return row


def size(**bound: Any) -> SizeGate:
    return SizeGate.model_validate({"size_mb": bound})


def p90(**limits: Any) -> LatencyGate:
    return LatencyGate.model_validate({"latency": "p90_ms", "device": "cpu-1t", **limits})


def test_a_drop_is_against_the_dense_graph_else_against_its_stored_outputs() -> None:
    rows, notes = evaluate_gates([MetricGate(metric="mrr@10", max_drop=0.03)], MEASURED)
    assert notes == ()
    assert [(row.gate, row.limit, row.passed) for row in rows] == [
        ("mrr@10 drop to dense <= 0.03 (cpu-1t)", 0.03, False),
        ("mrr@10 drop to dense <= 0.03 (cpu-4t)", 0.03, True),
    ]
    assert [row.value for row in rows] == pytest.approx([0.80 - 0.75, 0.82 - 0.81])


@pytest.mark.parametrize(
    ("gate", "text", "passed"),
    [
        (MetricGate(metric="mrr@10", min=0.70), "mrr@10 >= 0.7", [True, True]),
        (MetricGate(metric="mrr@10", min=0.80), "mrr@10 >= 0.8", [False, True]),
        (MetricGate(metric="mrr@10", max=0.80), "mrr@10 <= 0.8", [True, False]),
    ],
)
def test_absolute_metric_limits_hold_on_every_device(gate: Gate, text: str, passed: list[bool]) -> None:
    rows, _ = evaluate_gates([gate], MEASURED)
    assert [row.gate for row in rows] == [f"{text} (cpu-1t)", f"{text} (cpu-4t)"]
    assert [row.passed for row in rows] == passed


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (size(max=20.0), GateRow(gate="package size <= 20 MB", limit=20.0, value=20.0, passed=True)),
        (size(max=19.9), GateRow(gate="package size <= 19.9 MB", limit=19.9, value=20.0, passed=False)),
        (
            size(max_share_of="dense-fp32", share=0.22),
            GateRow(gate="package size <= 0.22 of dense-fp32", limit=0.22, value=0.25, passed=False),
        ),
    ],
)
def test_size(gate: Gate, expected: GateRow) -> None:
    assert one(gate) == expected


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (
            p90(max=3.0, tokens=16),
            GateRow(gate="p90 <= 3 ms (cpu-1t, 1 x 16 tokens)", limit=3.0, value=1.5, passed=True),
        ),
        (
            p90(max=3.0),
            GateRow(
                gate="p90 <= 3 ms (cpu-1t, every length), worst at 1 x 64 tokens",
                limit=3.0,
                value=4.0,
                passed=False,
            ),
        ),
        (
            p90(max_share_of="dense-int8", share=0.7),
            GateRow(
                gate="p90 <= 0.7 of dense-int8 (cpu-1t, every length), worst at 1 x 16 tokens",
                limit=0.7,
                value=0.75,
                passed=False,
            ),
        ),
        (
            p90(max_share_of="dense-int8", share=0.7, tokens=64),
            GateRow(
                gate="p90 <= 0.7 of dense-int8 (cpu-1t, 1 x 64 tokens)", limit=0.7, value=0.5, passed=True
            ),
        ),
    ],
)
def test_latency_without_a_length_must_hold_at_the_worst(gate: Gate, expected: GateRow) -> None:
    assert one(gate) == expected


@pytest.mark.parametrize(("percentile", "value"), [("p50_ms", 2.0), ("p90_ms", 4.0), ("p99_ms", 8.0)])
def test_the_percentile_is_the_gate_s(percentile: str, value: float) -> None:
    gate = LatencyGate.model_validate({"latency": percentile, "device": "cpu-1t", "max": 5.0})
    assert one(gate).value == value


def test_a_value_that_is_not_a_number_fails() -> None:
    nan = float("nan")
    measured = Measurements(
        accuracy=(accuracy("candidate", nan),),
        latency=(
            latency("candidate", 16, 1.0),
            latency("candidate", 64, nan),
            latency("candidate", 128, 2.0),
        ),
        sizes={"candidate": 1},
        reference={"mrr@10": 0.82},
    )
    gates = [MetricGate(metric="mrr@10", max_drop=1.0), MetricGate(metric="mrr@10", min=0.0), p90(max=100.0)]
    rows, _ = evaluate_gates(gates, measured)
    assert [row.passed for row in rows] == [False, False, False]


@pytest.mark.parametrize(
    ("gate", "note"),
    [
        (
            size(max_share_of="dense-int8", share=0.5),
            "not evaluated: package size <= 0.5 of dense-int8: the package dense-int8 was not given",
        ),
        (
            p90(max_share_of="dense-fp32", share=0.5, tokens=16),
            "not evaluated: p90 <= 0.5 of dense-fp32 (cpu-1t, 1 x 16 tokens): dense-fp32 was not timed there",
        ),
        (
            p90(max=1.0, tokens=99),
            "not evaluated: p90 <= 1 ms (cpu-1t, 1 x 99 tokens): candidate was not timed",
        ),
        (
            LatencyGate(latency="p90_ms", device="phone", max=1.0),
            "not evaluated: p90 <= 1 ms (phone, every length): candidate was not timed there",
        ),
        (
            MetricGate(metric="bleu", min=1.0),
            "not evaluated: bleu >= 1: the metric was not measured; .* mrr@10",
        ),
    ],
)
def test_what_cannot_be_evaluated_has_no_row_and_a_note(gate: Gate, note: str) -> None:
    rows, notes = evaluate_gates([gate], MEASURED)
    assert rows == ()
    (found,) = notes
    assert re.match(note.replace("(", r"\(").replace(")", r"\)"), found), found


def test_gates_read_from_a_recipe_are_taken_as_they_are() -> None:
    settings = Validation.model_validate_json(
        '{"gates": [{"metric": "mrr@10", "min": 0.5}, {"size_mb": {"max": 30}},'
        ' {"latency": "p50_ms", "device": "cpu-1t", "max": 10}]}'
    )
    rows, notes = evaluate_gates(settings.gates, MEASURED)
    assert len(rows) == 4
    assert all(row.passed for row in rows)
    assert notes == ()


# --- gates that can never be evaluated are found before anything is measured ------------------------


PRECISIONS = {"dense-fp32": "fp32", "candidate": "int8-dynamic"}


@pytest.mark.parametrize("evidence", ["emulated", "static"])
def test_a_time_on_a_device_that_is_not_timed_is_a_fault(cpu: Device, evidence: str) -> None:
    device = replace(cpu, evidence=evidence)
    with pytest.raises(UsageError, match=f"cpu-1t is not timed, its evidence is '{evidence}'"):
        check_gates([p90(max=1.0)], PRECISIONS, [device])


def test_a_share_of_a_baseline_that_the_device_refuses_is_a_fault(cpu: Device) -> None:
    device = replace(cpu, accepts=("int8-dynamic",))
    with pytest.raises(UsageError, match="cpu-1t does not accept fp32"):
        check_gates([p90(max_share_of="dense-fp32", share=0.5)], PRECISIONS, [device])


def test_a_metric_where_nothing_runs_is_a_fault(cpu: Device) -> None:
    device = replace(cpu, evidence="static")
    with pytest.raises(UsageError, match=r"'mrr@10 >= 0\.5': no device scores anything"):
        check_gates([MetricGate(metric="mrr@10", min=0.5)], PRECISIONS, [device])
    check_gates([MetricGate(metric="mrr@10", min=0.5), size(max=1.0)], PRECISIONS, [device, cpu])


def test_what_was_not_asked_for_here_is_no_fault(cpu: Device) -> None:
    elsewhere = LatencyGate(latency="p90_ms", device="phone", max=1.0)
    check_gates([elsewhere, p90(max_share_of="dense-int8", share=0.5), p90(max=1.0)], PRECISIONS, [cpu])


# --- placement --------------------------------------------------------------------------------------


def placed(device: str, share: float, macs_share: float | None, partitions: int | None) -> PlacementRow:
    return PlacementRow(
        variant="candidate",
        device=device,
        provider="QNNExecutionProvider",
        nodes=9,
        share=share,
        evidence="emulated",
        macs_share=macs_share,
        partitions=partitions,
    )


def test_a_provider_has_to_take_its_share_on_every_device() -> None:
    gate = PlacementGate.model_validate(
        {"placement": {"provider": "qnn", "min_share": 0.99, "max_partitions": 2}}
    )
    rows = (placed("one", 0.5, 1.0, 2), placed("two", 1.0, 0.5, 3), placed("three", 0.0, None, None))
    found, notes = evaluate_gates([gate], replace(MEASURED, placement=rows))
    assert notes == ()
    assert [(row.value, row.passed) for row in found] == [
        (1.0, True),
        (2, True),
        (0.5, False),
        (3, False),
        (0.0, False),
        (0, True),
    ]
    assert found[0].gate == "share of work on qnn >= 0.99 (one)"
    assert found[3].gate == "partitions of qnn <= 2 (two)"


def test_a_provider_that_no_device_has_is_not_passed() -> None:
    gate = PlacementGate.model_validate({"placement": {"provider": "NNAPI", "min_share": 0.1}})
    assert evaluate_gates([gate], MEASURED) == (
        (),
        ("not evaluated: share of work on NNAPI >= 0.1: no device that was measured gives NNAPI a node",),
    )


# --- variants ---------------------------------------------------------------------------------------


def test_a_metric_holds_for_every_package_that_is_released() -> None:
    gate = MetricGate(metric="mrr@10", max_drop=0.1)
    sizes = {**MEASURED.sizes, "npu": 30_000_000}
    rows = (*MEASURED.accuracy, accuracy("npu", 0.60))
    found, notes = evaluate_gates([gate], replace(MEASURED, accuracy=rows, sizes=sizes))
    assert notes == ()
    assert [(row.gate.partition(" (")[2], row.passed) for row in found] == [
        ("cpu-1t)", True),
        ("cpu-4t)", True),
        ("cpu-1t, npu)", False),
    ]
    assert evaluate_gates([gate], replace(MEASURED, sizes=sizes)) == (
        (),
        ("not evaluated: mrr@10 drop to dense <= 0.1: npu was scored on no device",),
    )


def test_a_device_is_gated_by_the_package_that_it_takes() -> None:
    rows = (*MEASURED.latency, latency("half", 16, 3.0, "gpu"))
    placement = (replace(placed("gpu", 1.0, 1.0, 1), variant="half"),)
    gates = (
        LatencyGate(latency="p90_ms", device="gpu", max=2.0),
        PlacementGate.model_validate({"placement": {"provider": "QNN", "min_share": 1.0}}),
        size(max=20.0),
    )
    found, _ = evaluate_gates(gates, replace(MEASURED, latency=rows, placement=placement))
    assert [row.value for row in found] == [3.0, 1.0, 20.0], "size is that of the candidate"
    assert found[1].gate == "share of work on QNN >= 1 (gpu, half)"
