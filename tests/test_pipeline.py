import json
import subprocess
import sys
import time

import pytest

from edgelr.errors import DataError, GateError
from edgelr.pipeline import build, plan
from edgelr.runtime.package import open_package


def change(recipe, old: str, new: str) -> None:
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))


def test_a_build_passes_and_its_package_opens(built):
    package = open_package(built / "tiny" / "package")
    assert package.precision == "int8-dynamic"
    assert package.accuracy["cosine"] > 0.1
    assert (built / "tiny" / "report.json").is_file()
    assert not (built / "tiny" / "rejected").exists()


def test_a_second_build_reuses_everything_and_needs_no_torch(rebuilt):
    code = (
        "import sys; from pathlib import Path; from edgelr.pipeline import build;"
        "r = build(Path(sys.argv[1]), Path(sys.argv[2]));"
        "assert all(row['reused'] for row in r.document['stages']), r.document['stages'];"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(rebuilt / "tiny.yaml"), str(rebuilt / "tiny")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_a_changed_gate_measures_again_and_a_failed_one_leaves_no_package(rebuilt):
    recipe = rebuilt / "tiny.yaml"
    change(recipe, "min: 0.1", "min: 0.9999")
    with pytest.raises(GateError, match=r"cosine >= 0\.9999"):
        build(recipe, rebuilt / "tiny")
    assert not (rebuilt / "tiny" / "package").exists()
    assert open_package(rebuilt / "tiny" / "rejected").name == "tiny"
    change(recipe, "min: 0.9999", "min: 0.1")
    report = build(recipe, rebuilt / "tiny")
    assert report.passed
    assert not (rebuilt / "tiny" / "rejected").exists()


def test_until_stops_early(rebuilt):
    report = build(rebuilt / "tiny.yaml", rebuilt / "tiny", until="plan")
    assert [row["stage"] for row in report.document["stages"]] == ["load", "survey", "plan"]


def test_plan_needs_no_training(rebuilt):
    document = plan(rebuilt / "tiny.yaml", rebuilt / "tiny").document
    assert len(document["layers"]) == 12


def test_a_second_build_takes_less_than_three_seconds(rebuilt):
    command = [
        sys.executable,
        "-m",
        "edgelr",
        "build",
        str(rebuilt / "tiny.yaml"),
        "--out",
        str(rebuilt / "tiny"),
    ]
    started = time.monotonic()
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert time.monotonic() - started < 3  # the limit of the issue; about one is usual


def test_a_failed_gate_is_exit_9_and_says_both_numbers(rebuilt):
    change(rebuilt / "tiny.yaml", "min: 0.1", "min: 0.9999")
    with pytest.raises(GateError, match=r"1 of 1 gates are not met: .*the limit is 0.9999") as caught:
        build(rebuilt / "tiny.yaml", rebuilt / "tiny")
    assert caught.value.exit_code == 9
    assert json.loads((rebuilt / "tiny" / "report.json").read_text())["passed"] is False


def test_a_recipe_that_was_changed_and_fails_leaves_nothing_of_the_old_one(rebuilt):
    out = rebuilt / "tiny"
    change(rebuilt / "tiny.yaml", "train: 40", "train: 4000")
    with pytest.raises(DataError):
        build(rebuilt / "tiny.yaml", out)
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {"build.log"}


def test_planning_another_recipe_leaves_the_last_package_where_it_is(rebuilt):
    change(rebuilt / "tiny.yaml", "parameters: 0.6", "parameters: 0.5")
    assert plan(rebuilt / "tiny.yaml", rebuilt / "tiny").document["kept_share"] <= 0.5
    assert open_package(rebuilt / "tiny" / "package").name == "tiny"
