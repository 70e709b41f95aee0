"""Whether what was measured meets the recipe's gates, said in plain words.

A gate that cannot be evaluated (its baseline or its device was not measured) is never counted as passed: it
has no row, and a note says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from edgelr.artifacts import BASELINES, CANDIDATE
from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.recipe.gates import Gate, LatencyGate, MetricGate, PlacementGate, SizeGate
from edgelr.timing.lengths import shape_text
from edgelr.verdict import AccuracyRow, GateRow, LatencyRow, PlacementRow

DENSE = "dense-fp32"
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """All that gates look at.

    Attributes:
        accuracy: Of every variant and device.
        latency: Of every variant, device and shape.
        sizes: Bytes of each variant's package.
        reference: Every metric of the dense model, from its stored outputs.
        placement: Of every variant and device that tells.
    """

    accuracy: tuple[AccuracyRow, ...]
    latency: tuple[LatencyRow, ...]
    sizes: Mapping[str, int]
    reference: Mapping[str, float]
    placement: tuple[PlacementRow, ...] = ()


class _NotMeasuredError(Exception):
    """What a gate needs is not there; the text says what."""


def evaluate_gates(
    gates: Sequence[Gate], measured: Measurements
) -> tuple[tuple[GateRow, ...], tuple[str, ...]]:
    """Evaluate every gate; a value that is not a number fails.

    Args:
        gates: The recipe's.
        measured: What was found.

    Returns:
        Rows of the gates that could be evaluated (of a metric, one a device and package), a note for each
        other gate.
    """
    rows: list[GateRow] = []
    notes = []
    for gate in gates:
        try:
            match gate:
                case MetricGate():
                    rows += _metric_rows(gate, measured)
                case SizeGate():
                    rows.append(_size_row(gate, measured))
                case LatencyGate():
                    rows.append(_latency_row(gate, measured))
                case PlacementGate():
                    rows += _placement_rows(gate, measured)
                case _:
                    assert_never(gate)
        except _NotMeasuredError as reason:
            notes.append(f"not evaluated: {_words(gate)}: {reason}")
    return tuple(rows), tuple(notes)


def check_gates(gates: Sequence[Gate], precisions: Mapping[str, str], devices: Sequence[Device]) -> None:
    """Check, before anything is measured, that no gate is on something that these devices never give.

    Without it a build whose gates cannot be evaluated would be green. A gate on a device or a baseline that
    is not here at all is a matter of what was asked for, and gets a note.

    Args:
        gates: The recipe's.
        precisions: Of every variant there is.
        devices: Those to measure on.

    Raises:
        UsageError: A time on a device that is not timed, a share of a baseline that the device does not
            accept, or a metric where nothing is run.
    """
    by_name = {device.name: device for device in devices}
    for gate in gates:
        if isinstance(gate, MetricGate) and not any(scores(device) for device in devices):
            raise UsageError(
                f"gate {_words(gate)!r}: no device scores anything", "add one that does, such as cpu-1t"
            )
        if not isinstance(gate, LatencyGate) or gate.device not in by_name:
            continue
        device = by_name[gate.device]
        if not device.timed:
            raise UsageError(
                f"gate {_words(gate)!r}: {device.name} is not timed, its evidence is {device.evidence!r} "
                f"and its runner {device.runner!r}",
                "put the gate on a device with evidence 'run' that runs in this process",
            )
        precision = precisions.get(gate.max_share_of or "")
        if precision is not None and precision not in device.accepts:
            raise UsageError(
                f"gate {_words(gate)!r}: {device.name} does not accept {precision}",
                "choose the other baseline",
            )


def scores(device: Device) -> bool:
    """Whether the examples are scored on a device: not where nothing runs, or each run takes seconds."""
    return device.evidence == "run" or (device.evidence == "emulated" and device.runner == "in-process")


def _metric_rows(gate: MetricGate, measured: Measurements) -> list[GateRow]:
    """A row a device and released package that was scored there; each of these has to be scored somewhere."""
    found = [row for row in _rows(gate.metric, measured) if row.variant not in BASELINES]
    values = {(row.device, row.variant): row.value for row in found}
    if not values:
        known = ", ".join(dict.fromkeys(row.metric for row in measured.accuracy)) or "none"
        raise _NotMeasuredError(f"the metric was not measured; measured were: {known}")
    if unknown := [
        name
        for name in measured.sizes
        if name not in BASELINES and name not in {row.variant for row in found}
    ]:
        raise _NotMeasuredError(f"{', '.join(unknown)} was scored on no device")
    rows = []
    for (device, variant), value in values.items():
        text = f"{_words(gate)} ({_where(device, variant)})"
        if gate.max_drop is not None:
            rows.append(_at_most(text, gate.max_drop, _dense_value(gate.metric, device, measured) - value))
        elif gate.max_rise is not None:
            rows.append(_at_most(text, gate.max_rise, value - _dense_value(gate.metric, device, measured)))
        elif gate.max is not None:
            rows.append(_at_most(text, gate.max, value))
        else:
            assert gate.min is not None
            rows.append(GateRow(gate=text, limit=gate.min, value=value, passed=value >= gate.min))
    return rows


def _dense_value(metric: str, device: str, measured: Measurements) -> float:
    """The dense graph's value on the same device when it was measured, else that of its stored outputs."""
    found = [row.value for row in _rows(metric, measured) if row.variant == DENSE and row.device == device]
    return found[0] if found else measured.reference[metric]


def _rows(metric: str, measured: Measurements) -> list[AccuracyRow]:
    return [row for row in measured.accuracy if row.metric == metric]


def _size_row(gate: SizeGate, measured: Measurements) -> GateRow:
    bound, size = gate.size_mb, measured.sizes[CANDIDATE]
    if bound.max is not None:
        return _at_most(_words(gate), bound.max, size / MB)
    assert bound.max_share_of is not None and bound.share is not None
    if bound.max_share_of not in measured.sizes:
        raise _NotMeasuredError(f"the package {bound.max_share_of} was not given")
    return _at_most(_words(gate), bound.share, size / measured.sizes[bound.max_share_of])


def _latency_row(gate: LatencyGate, measured: Measurements) -> GateRow:
    """The gate's row at the shape where it is furthest from being met."""
    own = {row.variant for row in measured.latency if row.device == gate.device} - set(BASELINES)
    candidate = _times(gate, next(iter(own), CANDIDATE), measured)
    if not candidate:
        raise _NotMeasuredError(f"{CANDIDATE} was not timed there")
    if gate.max is not None:
        values, limit = candidate, gate.max
    else:
        assert gate.max_share_of is not None and gate.share is not None
        baseline = _times(gate, gate.max_share_of, measured)
        if missing := sorted(set(candidate) - set(baseline)):
            raise _NotMeasuredError(f"{gate.max_share_of} was not timed there ({', '.join(missing)})")
        values, limit = {shape: time / baseline[shape] for shape, time in candidate.items()}, gate.share
    # NaN compares false with everything: put it first, or max() might step over it.
    worst = max(values, key=lambda shape: (values[shape] != values[shape], values[shape]))
    return _at_most(
        _words(gate) if _shape_of(gate) else f"{_words(gate)}, worst at {worst}", limit, values[worst]
    )


def _placement_rows(gate: PlacementGate, measured: Measurements) -> list[GateRow]:
    """A row a device whose provider it is: its share of the work, and its parts where they are limited."""
    name, limit = f"{gate.placement.provider}ExecutionProvider".lower(), gate.placement.max_partitions
    released = [row for row in measured.placement if row.variant not in BASELINES]
    own = {row.device: row for row in released if row.provider.lower() == name}
    if not own:
        raise _NotMeasuredError(f"no device that was measured gives {gate.placement.provider} a node")
    rows = []
    for device, row in own.items():
        share = row.share if row.macs_share is None else row.macs_share
        least = gate.placement.min_share
        where = _where(device, row.variant)
        text = f"{_words(gate)} ({where})"
        rows.append(GateRow(gate=text, limit=least, value=share, passed=share >= least))
        if limit is not None:
            text = f"partitions of {gate.placement.provider} <= {limit} ({where})"
            if row.partitions is None and share > 0:
                raise _NotMeasuredError(f"parts of {gate.placement.provider} are not known on {device}")
            rows.append(_at_most(text, limit, row.partitions or 0))
    return rows


def _times(gate: LatencyGate, variant: str, measured: Measurements) -> dict[str, float]:
    """Shape -> the gate's percentile of a variant on the gate's device."""
    return {
        row.shape: {"p50_ms": row.p50_ms, "p90_ms": row.p90_ms, "p99_ms": row.p99_ms}[gate.latency]
        for row in measured.latency
        if row.variant == variant and row.device == gate.device and _shape_of(gate) in (None, row.shape)
    }


def _shape_of(gate: LatencyGate) -> str | None:
    """The only shape that a gate holds for; None where it holds for all."""
    if gate.audio_s is not None:
        return shape_text(gate.audio_s, "s")
    return None if gate.tokens is None else shape_text(gate.tokens)


def _where(device: str, variant: str) -> str:
    """A device, and the variant that it takes."""
    return device if variant == CANDIDATE else f"{device}, {variant}"


def _at_most(text: str, limit: float, value: float) -> GateRow:
    return GateRow(gate=text, limit=limit, value=value, passed=value <= limit)


def _words(gate: Gate) -> str:  # noqa: PLR0911 - a line for each kind of gate
    match gate:
        case MetricGate(max_drop=float(drop)):
            return f"{gate.metric} drop to dense <= {drop:g}"
        case MetricGate(max_rise=float(rise)):
            return f"{gate.metric} rise over dense <= {rise:g}"
        case MetricGate(max=float(most)):
            return f"{gate.metric} <= {most:g}"
        case MetricGate():
            return f"{gate.metric} >= {gate.min:g}"
        case SizeGate(size_mb=bound):
            limit = (
                f"{bound.max:g} MB" if bound.max is not None else f"{bound.share:g} of {bound.max_share_of}"
            )
            return f"package size <= {limit}"
        case PlacementGate(placement=placed):
            return f"share of work on {placed.provider} >= {placed.min_share:g}"
        case LatencyGate():
            limit = f"{gate.max:g} ms" if gate.max is not None else f"{gate.share:g} of {gate.max_share_of}"
            shape = _shape_of(gate) or "every length"
            return f"{gate.latency.removesuffix('_ms')} <= {limit} ({gate.device}, {shape})"
        case _:
            assert_never(gate)
