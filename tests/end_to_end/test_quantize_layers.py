"""A build whose layers have schemes of their own, and accuracy control: from recipe to report."""

import json
from pathlib import Path

import pytest

from edgelr.errors import QuantizeError
from edgelr.pipeline import build
from edgelr.runtime.package import open_package

SECTION = "quantize: {scheme: int8-dynamic, min_cosine: 0.5}"
MIXED = """quantize:
  scheme: weight-int4
  min_cosine: 0.5
  layers: {"*.key": fp32, "transformer.encoder.layer.0.*": int8-static, "encoder.layer.0.*": fp16}
  max_drop: {metric: cosine, value: 0.02}
"""


def with_section(recipe: Path, text: str) -> Path:
    before = recipe.read_text(encoding="utf-8")
    assert SECTION in before
    recipe.write_text(before.replace(SECTION, text), encoding="utf-8")
    return recipe


def test_every_layer_becomes_what_was_asked_for_and_is_explained(rebuilt: Path) -> None:
    out = rebuilt / "tiny"
    report = build(with_section(rebuilt / "tiny.yaml", MIXED), out)
    found = report.document["quantization"]
    schemes: dict[str, set[str]] = {}
    for row in found["layers"]:
        kind = "key" if ".key" in row["layer"] else ".".join(row["layer"].split(".")[:3])
        schemes.setdefault(kind, set()).add(row["scheme"])
    assert schemes["key"] == {"fp32"}
    assert schemes["encoder.layer.0"] == {"int8-static"}, "the first glob that matches counts"
    assert schemes["encoder.layer.1"] <= {"weight-int4", "weight-int8", "fp32"}
    assert found["control"]["drop"] <= 0.02
    assert found["control"]["evaluations"] <= 25
    package = open_package(out / "package")
    assert "quantization.json" in package.files
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "Accuracy control: cosine drops by" in text
    assert (out / "quantization.svg").is_file()
    again = build(rebuilt / "tiny.yaml", out)
    assert all(row["reused"] for row in again.document["stages"])
    assert (
        again.document["quantization"] == json.loads((out / "report.json").read_text("utf-8"))["quantization"]
    )


def test_globs_in_another_order_are_another_package(rebuilt: Path) -> None:
    recipe = with_section(
        rebuilt / "tiny.yaml",
        'quantize: {scheme: fp16, layers: {"*.key": fp32, "encoder.*": int8-dynamic}, min_cosine: 0.5}',
    )
    first = build(recipe, rebuilt / "tiny", until="quantize").document["stages"][-1]
    text = recipe.read_text(encoding="utf-8")
    swapped = '{"encoder.*": int8-dynamic, "*.key": fp32}'
    recipe.write_text(text.replace('{"*.key": fp32, "encoder.*": int8-dynamic}', swapped), encoding="utf-8")
    second = build(recipe, rebuilt / "tiny", until="quantize").document["stages"][-1]
    assert first["key"] != second["key"]
    assert not second["reused"]


def test_a_drop_that_cannot_be_met_leaves_nothing(rebuilt: Path) -> None:
    text = (
        "quantize: {scheme: weight-int4, layers: {'*.dense': int8-dynamic}, "
        "max_drop: {metric: cosine, value: 0.0}, min_cosine: 0.1}"
    )
    recipe = with_section(rebuilt / "tiny.yaml", text)
    with pytest.raises(QuantizeError, match=r"quantize.max_drop: cosine loses .* at least, 0.0 is allowed"):
        build(recipe, rebuilt / "tiny")
    assert not (rebuilt / "tiny" / "package").exists()


@pytest.mark.slow
def test_auto_takes_what_is_fastest_here_and_says_by_which_times(rebuilt: Path, monkeypatch) -> None:
    monkeypatch.setattr("edgelr.quantize.times.SECONDS", 0.5)
    section = "quantize: {scheme: auto, min_cosine: 0.5, layers: {'*.key*': weight-int8}}"
    recipe, out = with_section(rebuilt / "tiny.yaml", section), rebuilt / "tiny"
    report = build(recipe, out)
    found = report.document["quantization"]
    accepted = {"int8-dynamic", "int8-static", "weight-int8", "weight-int4", "fp32"}
    assert {scheme for row in found["auto"]["shapes"] for scheme in row["ms"]} == accepted
    assert {row["scheme"] for row in found["layers"] if ".key" in row["layer"]} == {"weight-int8"}
    package = open_package(out / "package")
    assert package.precision in accepted - {"fp32"}
    assert "Scheme auto, measured on cpu-1t" in (out / "report.md").read_text(encoding="utf-8")
    again = build(recipe, out)
    assert all(row["reused"] for row in again.document["stages"]), "the times are kept"
    assert "schemes" in {row["stage"] for row in again.document["stages"]}
