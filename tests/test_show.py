"""Explaining a path: what it is, and whether its files are sound."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgelr.artifacts import Cost, Package
from edgelr.errors import DamagedArtifactError, UsageError
from edgelr.progress import Progress
from edgelr.recipe.starter import write_starter
from edgelr.runtime.package import seal_package
from edgelr.show import explain, list_devices
from edgelr.store import Store

REPORT = {
    "passed": False,
    "recipe": {"name": "tiny"},
    "model": {"candidate": {"parameters": 96, "bytes": 2_500_000, "macs": 96}},
    "gates": [{"gate": "mrr@10 >= 0.5", "limit": 0.5, "value": 0.25, "passed": False}],
    "stages": [{"stage": "load", "key": "0123456789abcdef0123", "seconds": 1.0, "reused": True}],
}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    def build(folder: Path, scratch: Path) -> None:
        (folder / "plan.json").write_text("{}\n", encoding="utf-8")

    store = Store(tmp_path / "store", Progress(quiet=True))
    stored = store.get_or_build(
        "plan", inputs={"survey": "abc"}, settings={}, versions={}, build=build, read=lambda folder: folder
    )
    return stored.folder


def test_an_artifact_says_where_it_came_from(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = explain(artifact)
    assert (document["kind"], document["stage"], document["key"]) == ("artifact", "plan", artifact.name)
    said = capsys.readouterr().out
    assert "every sha256 is right" in said
    assert "from survey  abc" in said
    assert explain(artifact / "manifest.json") == document


def test_a_package_says_what_goes_in_and_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("five!", encoding="utf-8")
    seal_package(
        tmp_path,
        name="tiny",
        task="sentence-embedding",
        graphs={},
        precision="int8-dynamic",
        cost=Cost(parameters=1234, bytes=0, macs=0),
        settings={},
        source={"title": "a \x1b[31mred model"},
        gates=(),
        accuracy={"mrr@10": 0.5},
    )
    document = explain(tmp_path)
    assert (document["kind"], document["cost"]["bytes"], document["accuracy"]) == (
        "package",
        5,
        {"mrr@10": 0.5},
    )
    assert explain(tmp_path / "package.json") == document
    said = capsys.readouterr().out
    assert "parameters    1,234" in said
    assert "mrr@10        0.5000 (as validated)" in said
    assert "\x1b" not in said
    (tmp_path / "notes.txt").write_text("four", encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match=r"notes\.txt was changed"):
        explain(tmp_path)


def test_a_damaged_artifact_is_not_explained(artifact: Path) -> None:
    (artifact / "plan.json").write_text("[]\n", encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match=r"plan\.json was changed") as raised:
        explain(artifact)
    assert raised.value.exit_code == 12


def test_a_recipe_is_shown_with_its_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_starter(tmp_path / "mine.yaml")
    document = explain(tmp_path / "mine.yaml")
    assert (document["kind"], document["recipe"]["name"]) == ("recipe", "mine")
    said = capsys.readouterr().out
    assert "name: mine\n" in said
    assert "clip_norm: 1.0" in said, "a default that the file leaves out"
    assert said.index("edgelr: 1") < said.index("compress:") < said.index("validate:"), (
        "in the schema's order"
    )


def test_a_build_shows_its_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT), encoding="utf-8")
    assert explain(tmp_path) == {"kind": "build", "path": str(tmp_path), "report": REPORT}
    said = capsys.readouterr().out
    assert "a build of tiny" in said
    assert "failed" in said
    assert "2.50 MB, 96 parameters" in said
    assert "gate mrr@10 >= 0.5  FAILED: 0.25 (limit 0.5)" in said


@pytest.mark.parametrize("text", ["{}", "[]", '{"passed": true, "model": 3}', "not json", "null"])
def test_a_report_that_is_none_is_damaged(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match=r"report\.json"):
        explain(tmp_path)


def test_what_is_not_there_or_not_ours_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        explain(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="not a package, a store artifact, an --out folder or a recipe"):
        explain(tmp_path)
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"notes\.txt is not a package"):
        explain(tmp_path / "notes.txt")


def test_devices_say_whether_they_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    devices = {row["name"]: row for row in list_devices()["devices"]}
    assert {"cpu-1t", "cpu-4t", "cpu-all"} <= set(devices)
    one: dict[str, Any] = devices["cpu-1t"]
    assert (one["threads"], one["evidence"], one["available"]) == (1, "run", True)
    heading, first = capsys.readouterr().out.splitlines()[:2]
    assert heading.split() == ["name", "title", "provider", "evidence", "threads", "can", "run", "here"]
    assert first.split()[0] in devices
    assert os.linesep not in first


def test_a_package_says_its_variants(varied: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(explain(varied.folder)["variants"]) == ["npu"]
    assert "variant npu         a16w8, 0." in capsys.readouterr().out
    (varied.folder / "npu" / "model.onnx").write_bytes(b"another")
    with pytest.raises(DamagedArtifactError, match=r"npu/model\.onnx was changed"):
        explain(varied.folder)
