import json
from pathlib import Path

import pytest
from classifiers import TAGS

from edgelr.cli import cli
from edgelr.terminal import run_command


def test_every_word_has_a_tag(built_tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = str(built_tagger / "package")
    assert run_command(cli, ["run", package, "cat  dog hammer", "one", "--json"]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out.splitlines()[-1])["taggings"]
    assert [[each["word"] for each in row["words"]] for row in rows] == [["cat", "dog", "hammer"], ["one"]]
    assert {each["tag"] for row in rows for each in row["words"]} <= set(TAGS)
    line = " ".join(
        each["word"] if each["tag"] == "O" else f"{each['word']}/{each['tag']}" for each in rows[0]["words"]
    )
    assert line in printed.err
    assert run_command(cli, ["run", package]) == 2
