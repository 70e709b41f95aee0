"""Budgets that have to be measured first, through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgelr.cli import cli
from edgelr.runtime.package import open_package
from edgelr.terminal import run_command

SHARE = "{parameters: 0.6}"
FAST = "{latency: {device: cpu-1t, speedup: 1.01, tokens: 32, seconds: 0.5}}"
GOOD = "{quality: {metric: cosine, max_drop: 0.1}}"


def with_budget(recipe: Path, keep: str) -> Path:
    text = recipe.read_text()
    assert SHARE in text
    recipe.write_text(text.replace(SHARE, keep))
    return recipe


def document(capsys: pytest.CaptureFixture[str], command: str, home: Path) -> dict[str, Any]:
    code = run_command(cli, [command, str(home / "tiny.yaml"), "--out", str(home / "tiny"), "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    found: dict[str, Any] = json.loads(shown.out.splitlines()[-1])
    return found


def refused(capsys: pytest.CaptureFixture[str], home: Path) -> str:
    code = run_command(cli, ["plan", str(home / "tiny.yaml"), "--out", str(home / "tiny")])
    shown = capsys.readouterr().err
    assert code == 2, shown
    assert "Traceback" not in shown
    return shown


@pytest.mark.slow
def test_a_build_to_a_latency(rebuilt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = with_budget(rebuilt / "tiny.yaml", FAST)
    report = document(capsys, "build", rebuilt)
    stages = [(row["stage"], row["reused"]) for row in report["stages"]]
    assert stages[:6] == [
        ("load", True),
        ("survey", True),
        ("export", True),  # the dense model: the baseline of the first build
        ("quantize", True),
        ("kernels", False),
        ("plan", False),
    ]
    found = report["plan"]["found"]
    assert found["speedup"] == pytest.approx(found["dense_ms"] / found["planned_ms"])
    assert found["speedup"] >= 1.01
    assert any(layer["form"] != "dense" for layer in report["layers"])
    assert f"×{found['speedup']:.2f}" in (rebuilt / "tiny" / "report.md").read_text()
    assert open_package(rebuilt / "tiny" / "package").precision == "int8-dynamic"
    recipe.write_text(recipe.read_text().replace("speedup: 1.01", "speedup: 1.02"))
    assert document(capsys, "plan", rebuilt)["found"]["dense_ms"] == found["dense_ms"], "not timed again"
    recipe.write_text(recipe.read_text().replace("speedup: 1.02", "speedup: 1000"))
    message = "tiny.yaml:9: compress.keep.latency: a speedup of 1000 is out of reach on cpu-1t: the dense"
    assert message in refused(capsys, rebuilt)


def test_a_build_to_a_quality(rebuilt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = with_budget(rebuilt / "tiny.yaml", GOOD)
    report = document(capsys, "build", rebuilt)
    assert [row["stage"] for row in report["stages"]][:4] == ["load", "survey", "quality", "plan"]
    found = report["plan"]["found"]
    assert 0 < found["drop"] <= 0.1
    assert report["plan"]["kept_share"] <= found["share"] < 1
    recipe.write_text(recipe.read_text().replace("max_drop: 0.1", "max_drop: 0.02"))
    stricter = document(capsys, "plan", rebuilt)
    assert stricter["found"]["share"] > found["share"]
    assert stricter["found"]["drop"] <= 0.02


@pytest.mark.parametrize(
    ("keep", "fault"),
    [
        (FAST.replace("1.01", "1.0"), "tiny.yaml:9: compress.keep.latency.speedup: "),
        (FAST.replace("cpu-1t", "cpu1t"), "tiny.yaml:9: compress.keep.latency.device: unknown device"),
        (FAST.replace("32", "33"), "tiny.yaml:9: compress.keep.latency.tokens: 33 tokens are more"),
        (GOOD.replace("cosine", "cosin"), "tiny.yaml:9: compress.keep.quality.metric: unknown metric"),
        (GOOD.replace("0.1", "-0.1"), "tiny.yaml:9: compress.keep.quality.max_drop: "),
        (GOOD.replace(", max_drop: 0.1", ""), "tiny.yaml:9: compress.keep.quality.max_drop: "),
        ("{parameters: 0.5, quality: {metric: cosine, max_drop: 0.1}}", "tiny.yaml:9: compress.keep: "),
        ("{parameters: 0.01}", "tiny.yaml:9: compress.keep: a share of 0.01 leaves no rank"),
    ],
)
def test_faults_are_told_with_their_line(
    rebuilt: Path, capsys: pytest.CaptureFixture[str], keep: str, fault: str
) -> None:
    with_budget(rebuilt / "tiny.yaml", keep)
    assert fault in refused(capsys, rebuilt)
