import json
from pathlib import Path

import pytest

from edgelr.cli import cli
from edgelr.terminal import run_command


def test_a_label_and_its_probability(built_classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = str(built_classifier / "package")
    assert run_command(cli, ["run", package, "cat dog", "hammer", "--json"]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out.splitlines()[-1])["classifications"]
    assert [row["input"] for row in rows] == ["cat dog", "hammer"]
    for row in rows:
        assert list(row["probabilities"]) == ["animals", "numbers", "tools"]
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]
        assert f"{row['label']}  {row['probability']:.3f}" in printed.err


def test_it_has_no_options_of_other_tasks(built_classifier: Path) -> None:
    assert run_command(cli, ["run", str(built_classifier / "package"), "cat", "--beam", "3"]) == 2
    assert run_command(cli, ["run", str(built_classifier / "package")]) == 2
