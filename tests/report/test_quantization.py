"""What became of each layer: read from the package, worst first, with what stayed fp32 and why."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edgelr.errors import DamagedArtifactError
from edgelr.report.markdown import report_markdown
from edgelr.report.quantization import errors_picture, quantization_markdown, read_quantization
from edgelr.report.stage import report_document, write_report


def layer(name: str, change: float | None, **other: Any) -> dict[str, Any]:
    row = {"graph": "model", "layer": name, "scheme": "weight-int4", "reason": ""}
    if change is not None:
        row |= {"alone_db": 20.0, "accumulated_db": 15.26, "output_change": change}
    return row | other


FOUND = {
    "scheme": "weight-int4",
    "layers": [
        layer("layer.1.<out>", 0.02, accumulated_db=9.0),
        layer("layer.0.query", 0.0051, scheme="weight-int8", reason="kept by quantize.max_drop (mrr)"),
        layer("layer.0.key", None, scheme="fp32", reason="quantize.layers: *.key"),
    ],
    "fp32_left": [
        {
            "graph": "model",
            "name": "layer.0.key",
            "bytes": 4096,
            "reason": "quantize.layers: *.key",
            "stated": True,
        },
        {"graph": "model", "name": "types", "bytes": 512, "reason": "a small table", "stated": False},
    ],
    "fp32_left_share": 0.061,
    "warnings": ["6.1% of the weights' bytes stayed fp32"],
    "control": {
        "metric": "mrr",
        "max_drop": 0.01,
        "drop": 0.0093,
        "drop_without": 0.2,
        "evaluations": 9,
        "kept": ["layer.0.query"],
    },
}


@pytest.fixture
def quantized(findings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Findings whose candidate says what became of its layers."""
    folder = tmp_path / "candidate"
    folder.mkdir()
    (folder / "quantization.json").write_text(json.dumps(FOUND), encoding="utf-8")
    candidate = findings["packages"]["candidate"]
    changed = dataclasses.replace(
        candidate, folder=folder, files={**candidate.files, "quantization.json": "0" * 64}
    )
    return {**findings, "packages": {**findings["packages"], "candidate": changed}}


def test_a_package_in_fp32_says_nothing(document: dict[str, Any]) -> None:
    assert document["quantization"] is None
    assert "## Quantization" not in report_markdown(document)
    assert read_quantization(None) is None


def test_what_the_candidate_says_is_in_the_report_with_its_warnings(quantized: dict[str, Any]) -> None:
    document = report_document(**quantized)
    assert document["quantization"] == FOUND
    assert FOUND["warnings"][0] in document["warnings"]
    told = report_document(**{**quantized, "warnings": FOUND["warnings"]})
    assert told["warnings"].count(FOUND["warnings"][0]) == 1


def test_tables(quantized: dict[str, Any]) -> None:
    text = report_markdown(report_document(**quantized)).split("## Quantization", 1)[1].split("\n## ", 1)[0]
    assert (
        "mrr drops by 0.0093 on validation data, 0.01 is allowed (0.2 with no layer kept; 9 evaluations)"
        in text
    )
    assert text.index("`layer.1.<out>` | weight-int4 | 20.0 | 9.0 | 0.02 |") < text.index(
        "`layer.0.query` | weight-int8 | 20.0 | 15.3 | 0.0051 | kept by quantize.max_drop (mrr) |"
    )
    assert "`layer.0.key` | 4.1 | quantize.layers: *.key |" in text
    assert "without anyone having said so: 6.1%" in text
    assert "](quantization.svg)" in text


def test_layers_of_several_graphs_are_told_apart() -> None:
    both = [layer("fc", 0.02), layer("fc", 0.01, graph="decoder")]
    text = quantization_markdown({**FOUND, "layers": both})
    assert "`model: fc`" in text
    assert "`decoder: fc`" in text


def test_a_picture_is_drawn_beside_it(quantized: dict[str, Any], tmp_path: Path) -> None:
    write_report(**quantized, out=tmp_path)
    picture = (tmp_path / "quantization.svg").read_text(encoding="utf-8")
    assert picture == errors_picture(FOUND["layers"])
    assert picture.index("layer.1.&lt;out&gt;") < picture.index("layer.0.query")
    assert "0.02, 20.0 dB" in picture
    assert "layer.0.key" not in picture, "it loses nothing"


def test_what_cannot_be_read_is_damage(quantized: dict[str, Any]) -> None:
    candidate = quantized["packages"]["candidate"]
    (candidate.folder / "quantization.json").write_text("{", encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match="cannot be read"):
        read_quantization(candidate)


def test_what_auto_chose_by(quantized: dict[str, Any]) -> None:
    row = {"rows": 24, "in": 64, "outs": [64, 32], "layers": 6, "scheme": "int8-dynamic"}
    times = [
        {**row, "ms": {"int8-dynamic": 0.0123, "fp32": 0.5}},
        {**row, "rows": 1, "layers": 1, "ms": {"fp32": 0.01}, "scheme": "fp32"},
    ]
    text = quantization_markdown({**FOUND, "auto": {"device": "cpu-1t", "noise": 0.05, "shapes": times}})
    assert "measured on cpu-1t" in text
    assert "within 5% of the fastest" in text
    assert "| layers | rows | shape | int8-dynamic | fp32 | fastest |" in text
    assert "| 6 | 24 | 64 → 64, 32 | 0.0123 | 0.5 | int8-dynamic |" in text
    assert "| 1 | 1 | 64 → 64, 32 |  | 0.01 | fp32 |" in text
