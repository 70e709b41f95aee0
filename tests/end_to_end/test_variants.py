"""One recipe and one tuned model: a package for processors, and in it a variant for an NPU."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.device.load import load_devices
from edgelr.device.prepared import missing
from edgelr.outcome import Report
from edgelr.pipeline import build
from edgelr.runtime.package import open_package

CHIP = load_devices()["qnn-sm8550"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(built: Path, add_variant: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built recipe, with a variant, and a profile that takes it wherever these tests run."""
    home = Path(shutil.copytree(built, tmp_path_factory.mktemp("variants") / "built"))
    add_variant(home / "tiny.yaml")
    return home


@pytest.fixture(scope="module")
def report(home: Path) -> Report:
    return build(home / "tiny.yaml", home / "tiny", devices=("cpu-1t", "phone"))


def test_the_tuned_model_is_shared(report: Report) -> None:
    made = [row["stage"] for row in report.document["stages"] if not row["reused"]]
    assert made == ["export", "quantize", "validate"]
    stages = [row["stage"] for row in report.document["stages"]]
    assert [stages.count(stage) for stage in ("finetune", "export", "quantize")] == [1, 3, 3]


def test_the_variant_is_a_sealed_package_in_the_package(report: Report) -> None:
    assert report.package is not None
    outer, inner = open_package(report.package), open_package(report.package / "npu")
    assert list(outer.variants) == ["npu"]
    assert (outer.precision, inner.precision) == ("int8-dynamic", "a16w8")
    assert (inner.settings["shapes"], outer.settings.get("shapes")) == ("8", None)
    assert inner.gates == outer.gates
    assert inner.source == outer.source
    assert inner.accuracy.keys() == outer.accuracy.keys() != set()
    assert inner.accuracy != outer.accuracy, "each has its own, of the same examples"
    assert inner.files["examples.jsonl"] == outer.files["examples.jsonl"]


def test_the_report_says_which_package_ran_where(report: Report) -> None:
    document = report.document
    found = [(row["device"], row["variant"], row["evidence"]) for row in document["devices"]]
    assert found == [("cpu-1t", "candidate", "run"), ("phone", "npu", "static")]
    assert {row["variant"] for row in document["placement"] if row["device"] == "phone"} == {"npu"}
    assert [row["gate"] for row in document["gates"]] == [
        "cosine >= 0.1 (cpu-1t, run)",
        "cosine >= 0.1 (cpu-1t, run, npu)",
    ]
    assert report.package is not None
    assert document["sizes"]["npu"] == open_package(report.package / "npu").cost.bytes
    text = (report.out / "report.md").read_text()
    assert "or `npu/`, a package of its own in a folder of the candidate's." in text
    assert "| phone (static) | iPhone and Mac, CoreML MLProgram | npu | no | no |" in text


def test_where_no_device_takes_it_there_is_none(report: Report, home: Path) -> None:
    again = build(home / "tiny.yaml", home / "tiny")
    assert again.package is not None
    assert not (again.package / "npu").exists()
    assert json.loads((again.package / "package.json").read_text()).get("variants") is None
    assert list(again.document["sizes"]) == ["dense-fp32", "dense-int8", "candidate"]
    assert all(row["reused"] for row in again.document["stages"] if row["stage"] != "validate")


@pytest.mark.skipif(missing(CHIP) is not None, reason="pip install onnxruntime-qnn")
def test_an_npu_runs_it_and_finds_it_compiled(report: Report, home: Path) -> None:
    there = build(home / "tiny.yaml", home / "tiny", devices=("cpu-1t", CHIP.name))
    assert there.package is not None
    names = {path.name for path in (there.package / "npu" / "qnn" / "sm8550").iterdir()}
    assert names == {"model-1x8.onnx", "model-1x32.onnx"}
    assert not (there.package / "qnn").exists()
    (row,) = (row for row in there.document["placement"] if row["device"] == CHIP.name)
    assert (row["variant"], row["share"], row["evidence"]) == ("npu", 1.0, "emulated")
    (device,) = (row for row in there.document["devices"] if row["device"] == CHIP.name)
    assert device["agreement"].startswith("agrees with cpu-1t on ")
    made = {row["stage"] for row in there.document["stages"] if not row["reused"]}
    assert made == {"validate"}
