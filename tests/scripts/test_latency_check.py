"""The kit for continuous integration: each step as a script that runs here, too."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from edgelr.artifacts import Package
from edgelr.cli import cli

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "latency-check"


def read(path: Path) -> dict:
    return YAML(typ="safe").load(path)


def test_the_workflow_is_the_script() -> None:
    """What it runs is a script of this repository, with options that there are."""
    job = read(ROOT / ".github" / "workflows" / "latency.yml")["jobs"]["compare"]
    (line,) = [step["run"] for step in job["steps"] if "run" in step]
    words = line.split()
    assert words[0] == "scripts/latency_check"
    assert os.access(ROOT / words[0], os.X_OK)
    assert (ROOT / words[2]).is_file()
    known = {option for parameter in cli.commands["compare"].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    subprocess.run(["bash", "-n", ROOT / words[0]], check=True)


def test_the_script_builds_here_and_compares_with_the_revision(tmp_path: Path) -> None:
    """In an environment that is installed already, whose program only notes what it is asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    noted = 'echo "$@" >> "$NOTED"\ntest "$1" = build || exit 10\n'
    (programs / "edgelr").write_text(f"#!/bin/sh\n{noted}", encoding="utf-8")
    for program in programs.iterdir():
        program.chmod(0o755)
    content = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    stamp = hashlib.sha256(content + sys.prefix.encode()).hexdigest()
    (tmp_path / ".edgelr-installed").write_text(stamp, encoding="utf-8")
    places = {**os.environ, "EDGELR_VENV": str(tmp_path), "NOTED": str(tmp_path / "noted")}
    command = [
        ROOT / "scripts" / "latency_check",
        "origin/main",
        "recipes/docs-search.yaml",
        "--tolerance",
        "5%",
    ]
    done = subprocess.run(command, env=places, check=False)
    assert done.returncode == 10, "that of the comparison"
    assert (tmp_path / "noted").read_text(encoding="utf-8").splitlines() == [
        "build recipes/docs-search.yaml --out build/candidate",
        "compare origin/main:recipes/docs-search.yaml build/candidate/package --tolerance 5%",
    ]


def test_every_input_of_the_action_reaches_its_script() -> None:
    action = read(ACTION / "action.yml")
    text = (ACTION / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.(\w+)", text)) == set(action["inputs"])
    (step,) = [step for step in action["runs"]["steps"] if step.get("id") == "compare"]
    script = (ACTION / "compare").read_text(encoding="utf-8")
    assert all(f"${name}" in script for name in step["env"])
    assert os.access(ACTION / "compare", os.X_OK)


@pytest.fixture
def act(tmp_path: Path):
    """Run the action's step as GitHub would."""
    program = tmp_path / "edgelr"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgelr "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    inputs = {"DEVICE": "cpu-1t", "TOLERANCE": "", "BUDGET": "1s", "OPTIONS": "--tokens 8 --limit bytes=2%"}
    places = {
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "EDGELR": str(program),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    def run(**changes: object) -> int:
        given = {**os.environ, **inputs, **places, **{name: str(value) for name, value in changes.items()}}
        return subprocess.run([ACTION / "compare"], env=given, check=False).returncode

    return run


def test_a_baseline_is_compared_and_the_outcome_told(make_package, act, tmp_path: Path) -> None:
    from edgelr.compare.baseline import save_baseline

    package: Package = make_package()
    save_baseline(package.folder, tmp_path / "base.tar.gz")
    sides = {"BASE": tmp_path / "base.tar.gz", "CANDIDATE": package.folder}
    assert act(**sides) == 11
    assert (tmp_path / "output").read_text(encoding="utf-8") == "outcome=inconclusive\n"
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("### Latency of")
    assert (tmp_path / "latency.md").is_file(), "what a comment is made of"


def test_a_fault_is_its_exit_code_and_no_summary(act, tmp_path: Path) -> None:
    assert act(BASE="nowhere", CANDIDATE="nowhere") == 2
    assert (tmp_path / "output").read_text(encoding="utf-8") == "outcome=\n"
    assert not (tmp_path / "summary.md").exists()


@pytest.fixture
def comment(tmp_path: Path):
    """Run the step that comments, with a program in the place of GitHub's own that notes what it is asked."""
    program = tmp_path / "gh"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$RUNNER_TEMP/asked"\n', encoding="utf-8")
    program.chmod(0o755)
    (step,) = [
        step for step in read(ACTION / "action.yml")["runs"]["steps"] if "GH_TOKEN" in step.get("env", {})
    ]
    assert "inputs.comment == 'true'" in step["if"]
    given = {"GH_TOKEN": "x", "NUMBER": "7", "REPOSITORY": "one/two", "RUNNER_TEMP": str(tmp_path)}
    assert {*step["env"], "RUNNER_TEMP"} == set(given)

    def run() -> list[str]:
        places = {**os.environ, **given, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env=places, check=True)
        asked = tmp_path / "asked"
        return asked.read_text(encoding="utf-8").splitlines() if asked.exists() else []

    return run


def test_a_comment_is_the_summary_and_replaces_the_last_one(comment, tmp_path: Path) -> None:
    (tmp_path / "latency.md").write_text("### Latency of", encoding="utf-8")
    asked = comment()
    assert asked[:5] == ["pr", "comment", "7", "--repo", "one/two"]
    assert {"--edit-last", "--create-if-none"} < set(asked)
    assert asked[asked.index("--body-file") + 1] == str(tmp_path / "latency.md")


def test_without_a_summary_there_is_no_comment(comment) -> None:
    assert comment() == []
