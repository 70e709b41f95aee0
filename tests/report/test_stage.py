"""report.json: stable keys, true figures, whole files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edgelr.errors import StorageError
from edgelr.report.stage import report_document, write_report


def test_the_keys_are_stable(document: dict[str, Any]) -> None:
    assert set(document) == {
        *("edgelr", "recipe", "passed", "model", "sizes", "ratios", "accuracy", "latency", "placement"),
        *("sessions", "fallbacks", "devices", "ort_bytes"),
        *("gates", "plan", "layers", "quantization", "stages", "host", "warnings"),
    }
    assert document["edgelr"] == 1
    assert set(document["model"]["dense"]) == {"parameters", "bytes", "macs"}
    accuracy = {"variant", "device", "evidence", "metric", "value", "ci95", "examples"}
    assert set(document["accuracy"][0]) == accuracy
    latency = {"variant", "device", "evidence", "shape", "p50_ms", "p90_ms", "p99_ms", "runs"}
    assert latency <= set(document["latency"][0])
    assert set(document["gates"][0]) == {"gate", "limit", "value", "passed"}
    assert set(document["stages"][0]) == {"stage", "key", "seconds", "reused"}


def test_the_speed_of_writing_is_a_key_only_where_it_was_measured(
    document: dict[str, Any], written: dict[str, Any]
) -> None:
    keys = {"tokens_per_s", "first_token_ms"}
    assert not any(keys & set(row) for row in document["latency"])
    assert {row["variant"] for row in written["latency"] if keys <= set(row)} == {"dense-fp32", "candidate"}
    assert not any(keys & set(row) for row in written["latency"] if row["variant"] == "dense-int8")


def test_a_model_costs_what_its_package_costs(document: dict[str, Any]) -> None:
    assert document["model"] == {
        "dense": {"parameters": 20_000_000, "bytes": 80_000_000, "macs": 1000},
        "candidate": {"parameters": 4_000_000, "bytes": 16_000_000, "macs": 1000},
    }


def test_without_a_dense_package_its_cost_is_that_of_the_plan(findings: dict[str, Any]) -> None:
    findings["packages"] = {"candidate": findings["packages"]["candidate"]}
    document = report_document(**findings)
    assert document["model"]["dense"] == {"parameters": 128, "bytes": 512, "macs": 128}
    assert [row for row in document["ratios"] if row["figure"] == "bytes"] == []


def test_ratios_compare_the_candidate_with_each_baseline(document: dict[str, Any]) -> None:
    sizes = {row["baseline"]: row["share"] for row in document["ratios"] if row["figure"] == "bytes"}
    assert sizes == {"dense-fp32": 0.2, "dense-int8": 0.8}
    speedups = [
        (row["device"], row["shape"], row["baseline"], row["speedup"], row["evidence"])
        for row in document["ratios"]
        if row["figure"] == "p50_ms"
    ]
    assert speedups == [
        ("cpu-1t", "1x16", "dense-fp32", 2.0, "run"),
        ("cpu-1t", "1x16", "dense-int8", 1.25, "run"),
        ("cpu-1t", "1x128", "dense-fp32", 2.0, "run"),
        ("cpu-1t", "1x128", "dense-int8", 1.25, "run"),
    ]


def test_the_recipe_is_that_of_the_file(document: dict[str, Any]) -> None:
    assert document["recipe"]["name"] == "tiny"
    assert "validate" in document["recipe"], "keys as a recipe spells them"


def test_notes_of_the_verdict_are_warnings(document: dict[str, Any]) -> None:
    notes = ["the card names no license", "the profile asks for 4 threads, the host has 2"]
    assert document["warnings"] == notes


def test_a_figure_that_is_not_finite_is_null(findings: dict[str, Any], tmp_path: Path) -> None:
    verdict = findings["verdict"]
    row = dataclasses.replace(verdict.accuracy[0], value=float("nan"), ci95=(float("nan"), float("inf")))
    findings["verdict"] = dataclasses.replace(verdict, accuracy=(row,))
    write_report(**findings, out=tmp_path)
    (found,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["accuracy"]
    assert (found["value"], found["ci95"]) == (None, [None, None])


def test_what_is_written_is_what_is_returned(findings: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "build" / "tiny"
    report = write_report(**findings, out=out)
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == report.document
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "layers.svg", "latency.svg"}
    assert (report.out, report.passed, report.package) == (out, False, None)


def test_a_passed_report_names_the_package(findings: dict[str, Any], tmp_path: Path) -> None:
    findings["verdict"] = dataclasses.replace(findings["verdict"], passed=True)
    findings["passed"] = True
    assert write_report(**findings, out=tmp_path).package == tmp_path / "package"


def test_writing_again_gives_the_same_bytes(findings: dict[str, Any], tmp_path: Path) -> None:
    def written() -> dict[str, bytes]:
        write_report(**findings, out=tmp_path)
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert written() == written()


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(findings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="out"):
        write_report(**findings, out=tmp_path / "out")
