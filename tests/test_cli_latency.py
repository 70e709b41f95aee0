import json
import re
from pathlib import Path

import click
import pytest

from edgelr.artifacts import Package
from edgelr.cli import cli
from edgelr.recipe.compare import Compare
from edgelr.terminal import run_command


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict, str]:
    code = run_command(cli, [*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]), err


def test_a_baseline_is_kept_and_compared(make_package, tmp_path: Path, capsys) -> None:
    package: Package = make_package()
    file, folder = tmp_path / "base.tar.gz", tmp_path / "base"
    code, saved, _ = run(capsys, "baseline", "save", package.folder, file)
    assert (code, saved) == (0, {"file": str(file), "bytes": file.stat().st_size})
    assert run(capsys, "baseline", "load", file, folder)[:2] == (0, {"package": str(folder)})
    options = ["--tokens", 4, "--budget", "1s", "--inconclusive-ok"]
    code, _, err = run(capsys, "compare", folder, package.folder, *options)
    assert code == 0
    assert "base and candidate are the same bytes" in err
    code, failed, _ = run(capsys, "baseline", "load", file, folder)
    assert code == 2
    assert "something already" in failed["error"]["message"]


def test_a_trend_is_shown_and_drawn(tmp_path: Path, capsys) -> None:
    line = {
        "when": "2030-01-01T00:00:00+00:00",
        "host": "0123456789abcdef",
        "device": "cpu-1t",
        "outcome": "pass",
        "base": "a",
        "candidate": "b",
        "ratios": {"p50": 1.01},
        "versions": {"edgelr": "1"},
        "restarts": 9,
    }
    history, picture = tmp_path / "history.jsonl", tmp_path / "trend.svg"
    history.write_text(json.dumps(line) + "\n", encoding="utf-8")
    code, found, err = run(capsys, "trend", history, "--svg", picture)
    assert code == 0
    assert found == {"comparisons": [line]}
    assert "×1.010" in err
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    code, failed, _ = run(capsys, "trend", tmp_path / "none")
    assert (code, "there is no history" in failed["error"]["message"]) == (2, True)


def test_the_help_names_the_defaults_of_the_schema() -> None:
    command = cli.commands["compare"]
    shown = {
        option.name: re.search(r"\[(\d+)", option.help or "")
        for option in command.params
        if isinstance(option, click.Option)
    }
    found = {name: int(match[1]) for name, match in shown.items() if match}
    defaults = Compare()
    assert found == {
        "tolerance": defaults.tolerance * 100,
        "budget": defaults.budget_s,
        "tokens": defaults.tokens,
        "audio_s": defaults.audio_s,
    }
