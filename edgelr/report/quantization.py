"""What quantization did to each layer, as tables: worst first, and what stayed fp32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgelr.artifact_files import read_json
from edgelr.artifacts import Package
from edgelr.report.pictures import FACTORED, Bar, bar_chart
from edgelr.report.tables import table
from edgelr.runtime.package import QUANTIZATION

Row = dict[str, Any]
PICTURE = "quantization.svg"


def read_quantization(package: Package | None) -> Row | None:
    """What a package says of its layers; None of one in fp32.

    Args:
        package: The candidate; None when there is none.

    Raises:
        DamagedArtifactError: It lists a file that cannot be read.
    """
    if package is None or QUANTIZATION not in package.files:
        return None
    document: Row = read_json(Path(package.folder) / QUANTIZATION)
    return document


def quantization_markdown(found: Row | None) -> str:
    """Render it.

    Args:
        found: The ``quantization`` of a report.

    Returns:
        Markdown that links ``quantization.svg``; "" for a package in fp32.
    """
    if found is None:
        return ""
    parts = [
        _times(found.get("auto")),
        _control(found.get("control")),
        _errors(found["layers"]),
        _left(found),
    ]
    return "\n\n".join(part for part in parts if part)


def errors_picture(layers: Sequence[Row]) -> str:
    """Draw what each layer changes of the output when it alone is quantized, worst first.

    Args:
        layers: The ``quantization.layers`` of a report.

    Returns:
        An SVG document.
    """
    bars = [
        Bar(
            label=_name(row, layers),
            value=row["output_change"],
            text=f"{row['output_change']:.2g}, {row['alone_db']:.1f} dB",
            color=FACTORED,
        )
        for row in _measured(layers, "output_change")
    ]
    return bar_chart("Change of the output by each quantized layer alone (cosine distance)", bars)


def _times(auto: Row | None) -> str:
    """What each shape takes with each scheme, and which is the fastest."""
    if auto is None:
        return ""
    schemes = list(dict.fromkeys(scheme for row in auto["shapes"] for scheme in row["ms"]))
    rows = [
        (
            str(row["layers"]),
            str(row["rows"]),
            f"{row['in']} → {', '.join(str(out) for out in row['outs'])}",
            *(f"{row['ms'][scheme]:.3g}" if scheme in row["ms"] else "" for scheme in schemes),
            row["scheme"],
        )
        for row in auto["shapes"]
    ]
    legend = (
        f"Scheme auto, measured on {auto['device']}: milliseconds of the products of one value, each shape "
        "alone; rows are those of a call on calibration data, one in a decoder. What is within "
        f"{auto['noise']:.0%} of the fastest is as fast, and the smallest of these is taken. Tables, globs "
        "and accuracy control do not go by it: what became of each layer is below."
    )
    return "\n\n".join([legend, table(("layers", "rows", "shape", *schemes, "fastest"), rows)])


def _control(control: Row | None) -> str:
    if control is None:
        return ""
    kept = ", ".join(f"`{name}`" for name in control["kept"]) or "none"
    return (
        f"Accuracy control: {control['metric']} drops by {control['drop']:.4g} on validation data, "
        f"{control['max_drop']:.4g} is allowed ({control['drop_without']:.4g} with no layer kept; "
        f"{control['evaluations']} evaluations). Kept at higher precision, worst for its bytes first: {kept}."
    )


def _errors(layers: Sequence[Row]) -> str:
    rows = [
        (
            f"`{_name(row, layers)}`",
            row["scheme"],
            f"{row['alone_db']:.1f}",
            f"{row['accumulated_db']:.1f}",
            "–" if row.get("output_change") is None else f"{row['output_change']:.2g}",
            row["reason"],
        )
        for row in _measured(layers, "alone_db")
    ]
    if not rows:
        return ""
    legend = (
        "Signal to quantization noise at each layer's output, in dB on calibration data: with this layer "
        "alone quantized, and with all of them. Change: mean cosine distance of the graph's outputs to fp32 "
        "with this layer alone quantized; it stands for the task's metric, which would be too slow. Of large "
        "models it is measured for the worst layers only."
    )
    picture = f"![Change of the output by each layer]({PICTURE})"
    columns = ("layer, worst first", "scheme", "alone, dB", "accumulated, dB", "change", "why")
    return "\n\n".join([legend, picture, table(columns, rows)])


def _left(found: Row) -> str:
    left = found["fp32_left"]
    rows = [(f"`{_name(row, left, 'name')}`", f"{row['bytes'] / 1e3:.1f}", row["reason"]) for row in left]
    summary = (
        f"Bytes left in fp32 without anyone having said so: {found['fp32_left_share']:.1%} of the weights'."
    )
    return "\n\n".join([summary, table(("left in fp32", "kB", "why"), rows)]) if rows else ""


def _measured(layers: Sequence[Row], key: str) -> list[Row]:
    return [row for row in layers if row.get(key) is not None]


def _name(row: Row, others: Sequence[Row], key: str = "layer") -> str:
    """With the graph, where there are several."""
    several = len({each["graph"] for each in others}) > 1
    return f"{row['graph']}: {row[key]}" if several else str(row[key])
