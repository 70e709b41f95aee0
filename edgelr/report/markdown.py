"""report.md: report.json for people. The verdict first, then what it rests on.

Everything here is read from the report's document alone, so that a report can be written again from its JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgelr.artifacts import BASELINES, CANDIDATE
from edgelr.report.devices import devices_markdown
from edgelr.report.placement import placement_markdown
from edgelr.report.quantization import quantization_markdown
from edgelr.report.sessions import sessions_markdown
from edgelr.report.sizes import sizes_markdown, variant_sizes
from edgelr.report.tables import table

Row = dict[str, Any]
VARIANTS = (*BASELINES, CANDIDATE)


def report_markdown(document: Row) -> str:
    """Render a report.

    Args:
        document: What ``report.json`` holds.

    Returns:
        GitHub-flavored Markdown. It links ``layers.svg``, ``latency.svg``, ``quantization.svg`` next to it.
    """
    sections = [
        f"# {document['recipe']['name']}",
        verdict_line(document),
        *_section("Gates", _gates(document["gates"])),
        *_section("Size", sizes_markdown(document)),
        *_section("Devices", devices_markdown(document)),
        *_section("Accuracy", _accuracy(document)),
        *_section("Latency", _latency(document["latency"], _ratios(document, "p50_ms"))),
        *_section("Session settings", sessions_markdown(document.get("sessions", ()))),
        *_section("Node placement", placement_markdown(document)),
        *_section("Layers", _layers(document)),
        *_section("Quantization", quantization_markdown(document.get("quantization"))),
        *_section("Stages", _stages(document["stages"])),
        *_section("Host", table(("", ""), [(key, value) for key, value in document["host"].items()])),
        *_section("Warnings", "\n".join(f"- {warning}" for warning in document["warnings"])),
    ]
    return "\n\n".join(sections) + "\n"


def verdict_line(document: Row) -> str:
    """Say in one line whether the package passed, how large it is and how fast.

    Args:
        document: What ``report.json`` holds.

    Returns:
        One line of Markdown.
    """
    gates = document["gates"]
    passed = sum(gate["passed"] for gate in gates)
    word = "Passed" if document["passed"] else "Failed"
    parts = [f"{passed} of {len(gates)} gates" if gates else "the recipe has no gates"]
    size = f"{_megabytes(document['model']['candidate']['bytes'])} MB"
    shares = [f"{row['share']:.2f} of {row['baseline']}" for row in _ratios(document, "bytes")]
    others = [f"{name} {_megabytes(count)} MB" for name, count in variant_sizes(document).items()]
    parts.append(", ".join([size, *shares, *others]))
    for row in _longest_shapes(_ratios(document, "p50_ms")):
        gain = f"×{_number(row['speedup'], 2)} against {row['baseline']}"
        parts.append(f"{gain} on {row['device']} ({row['shape']}, p50, {row['evidence']})")
    return f"**{word}**: {'; '.join(parts)}."


def found_line(found: Row) -> str:
    """Say what was found for a budget that is no share; "" when it is one.

    Args:
        found: As of a Plan.

    Returns:
        One sentence.
    """
    if "speedup" in found:
        return (
            f"Predicted from kernel times: {found['dense_ms']:.4g} ms dense, {found['planned_ms']:.4g} ms as "
            f"planned, ×{found['speedup']:.2f}."
        )
    if "drop" in found:
        return (
            f"The smallest share of the parameters that holds: {found['share']:.3f}; the metric drops by "
            f"{found['drop']:.4f} there, untuned, on validation data."
        )
    return ""


def _section(title: str, body: str) -> list[str]:
    """A titled section, or nothing when it would be empty."""
    return [f"## {title}", body] if body else []


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _general(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f}"


def _gates(gates: Sequence[Row]) -> str:
    words = {True: "passed", False: "**failed**"}
    rows = [
        (row["gate"], _general(row["limit"]), _general(row["value"]), words[row["passed"]]) for row in gates
    ]
    return table(("gate", "limit", "measured", ""), rows)


def _accuracy(document: Row) -> str:
    """One line a metric and device, the variants side by side, each with its 95 % interval."""
    accuracy = document["accuracy"]
    variants = _variants(accuracy)
    lines: dict[tuple[str, str, int], dict[str, str]] = {}
    for row in accuracy:
        low, high = row["ci95"]
        figure = f"{_number(row['value'], 4)} [{_number(low, 4)}, {_number(high, 4)}]"
        lines.setdefault((row["metric"], row["device"], row["examples"]), {})[row["variant"]] = figure
    rows = [
        (metric, _device(device, document), examples, *(found.get(variant, "–") for variant in variants))
        for (metric, device, examples), found in lines.items()
    ]
    body = table(("metric", "device", "examples", *variants), rows)
    return f"{body}\n\nIn brackets: 95 % bootstrap interval over the examples." if body else ""


def _latency(latency: Sequence[Row], ratios: Sequence[Row]) -> str:
    """One line a device and shape: percentiles of every variant, then the candidate's speedups."""
    variants = _variants(latency)
    baselines = [variant for variant in variants if variant in BASELINES]
    speedups = {(row["device"], row["shape"], row["baseline"]): row["speedup"] for row in ratios}
    rows = []
    for (device, shape), found in _side_by_side(latency).items():
        times = [_times(found[variant]) if variant in found else "–" for variant in variants]
        gains = [_speedup(speedups.get((device, shape, baseline)), found) for baseline in baselines]
        rows.append((device, shape, *times, *gains))
    if not rows:
        return ""
    columns = ("device", "shape", *variants, *(f"candidate against {baseline}" for baseline in baselines))
    legend = "Times: p50 / p90 / p99 in ms (evidence, runs). Speedups: of the medians of one interleaved run."
    picture = "![Median latency](latency.svg)"
    speeds = (_writing_speed(latency), _hearing_speed(latency))
    parts = [table(columns, rows), legend, *speeds, _memory(latency), picture]
    return "\n\n".join(part for part in parts if part)


def _side_by_side(latency: Sequence[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    """Device and shape -> variant -> its row."""
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in latency:
        lines.setdefault((row["device"], row["shape"]), {})[row["variant"]] = row
    return lines


def _writing_speed(latency: Sequence[Row]) -> str:
    """The same lines for what is written token by token; nothing where none is."""
    written = [row for row in latency if "tokens_per_s" in row or "first_token_ms" in row]
    variants = _variants(written)
    rows = [
        (*line, *(_speed(found[variant]) if variant in found else "–" for variant in variants))
        for line, found in _side_by_side(written).items()
    ]
    legend = "Tokens written a second / ms until the first (evidence): medians."
    return "\n\n".join([table(("device", "shape", *variants), rows), legend]) if rows else ""


def _hearing_speed(latency: Sequence[Row]) -> str:
    """The same lines for what is heard: how much of its own time a sound takes, and for which part."""
    heard = [row for row in latency if "rtf" in row]
    variants = _variants(heard)
    rows = [
        (*line, *(_factor(found[variant]) if variant in found else "–" for variant in variants))
        for line, found in _side_by_side(heard).items()
    ]
    legend = "Real-time factor: features / encoder / decoder in ms (evidence): medians."
    return "\n\n".join([table(("device", "shape", *variants), rows), legend]) if rows else ""


def _factor(row: Row) -> str:
    parts = " / ".join(_number(row.get(name), 2) for name in ("features_ms", "encoder_ms", "decoder_ms"))
    return f"{_number(row['rtf'], 4)}: {parts} ({row['evidence']})"


def _speed(row: Row) -> str:
    figures = (_number(row.get("tokens_per_s"), 1), _number(row.get("first_token_ms"), 2))
    return f"{' / '.join(figures)} ({row['evidence']})"


def _times(row: Row) -> str:
    times = " / ".join(_number(row[key], 2) for key in ("p50_ms", "p90_ms", "p99_ms"))
    return f"{times} ({row['evidence']}, {row['runs']})"


def _speedup(speedup: float | None, found: dict[str, Row]) -> str:
    """With the variant, where the device takes one in place of the candidate."""
    if speedup is None:
        return "–"
    own = next(name for name in found if name not in BASELINES)
    return f"×{speedup:.2f} ({found[own]['evidence']}{'' if own == CANDIDATE else f', {own}'})"


def _memory(latency: Sequence[Row]) -> str:
    """Peak memory of every variant on every device, over all shapes."""
    peaks: dict[tuple[str, str, str], int] = {}
    for row in latency:
        key = (row["device"], row["variant"], row["evidence"])
        peaks[key] = max(peaks.get(key, 0), row["peak_bytes"] or 0)
    rows = [(device, name, f"{_megabytes(peak)} ({word})") for (device, name, word), peak in peaks.items()]
    return table(("device", "variant", "peak memory, MB"), rows)


def _device(name: str, document: Row) -> str:
    """A device with its evidence word."""
    measured = (*document["latency"], *document["placement"], *document.get("devices", ()))
    words = {row["device"]: row["evidence"] for row in measured}
    return f"{name} ({words.get(name, 'emulated')})"


def _layers(document: Row) -> str:
    rows = [
        (
            f"`{row['name']}`",
            f"{row['out']} × {row['in_']}",
            row["form"],
            "" if row["rank"] is None else row["rank"],
            _number(row["kept_share"], 3),
            _number(row["error_share"], 4),
            _general(row["expected_change"]),
        )
        for row in document["layers"]
    ]
    columns = ("layer", "out × in", "form", "rank", "kept share", "expected error share", "expected change")
    summary = f"Kept share of all sites: {_number(document['plan']['kept_share'], 3)}."
    budget = found_line(document["plan"].get("found", {}))
    picture = "![Kept share and rank of every layer](layers.svg)"
    parts = [summary, budget, picture, table(columns, rows)]
    return "\n\n".join(part for part in parts if part) if rows else ""


def _stages(stages: Sequence[Row]) -> str:
    rows = [
        (
            row["stage"],
            _number(row["seconds"], 1),
            "reused" if row["reused"] else "built",
            f"`{row['key'][:12]}`",
        )
        for row in stages
    ]
    return table(("stage", "seconds", "", "key"), rows)


def _variants(rows: Sequence[Row]) -> list[str]:
    return sorted({row["variant"] for row in rows}, key=_rank)


def _rank(variant: str) -> tuple[int, str]:
    """The usual order: baselines first, the candidate last of those known."""
    return (VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS), variant)


def _longest_shapes(ratios: Sequence[Row]) -> list[Row]:
    """Of every device and baseline, the speedup at the last (longest) shape measured."""
    return list({(row["device"], row["baseline"]): row for row in ratios}.values())


def _ratios(document: Row, figure: str) -> list[Row]:
    return [row for row in document["ratios"] if row["figure"] == figure]
