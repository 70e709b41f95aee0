import json
import xml.etree.ElementTree as ET

import pytest

from edgelr.cli import cli
from edgelr.terminal import run_command


def compare(capsys, *arguments) -> tuple[int, dict, str]:
    code = run_command(cli, ["compare", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]), err


@pytest.mark.slow
def test_a_slower_graph_is_a_regression(one_layer, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    sides = one_layer(4), one_layer(40)
    code, document, err = compare(
        capsys, *sides, "--shape", "tokens=128", "--budget", "2m", "--junit", tmp_path / "out" / "junit.xml"
    )
    assert code == 10
    assert document["error"]["exit"] == 10
    assert document["outcome"] == "regression"
    assert document["confirmed"]
    assert document["rows"][0]["ratio"] > 2
    assert "regression: p50" in err
    assert ET.parse(tmp_path / "out" / "junit.xml").getroot()[0].attrib["failures"] == "1"
    assert "regression" in (tmp_path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_graph_against_itself_is_never_a_regression(one_layer, capsys):
    path = one_layer(20)
    code, document, err = compare(
        capsys,
        path,
        path,
        "--shape",
        "tokens=128",
        "--tolerance",
        "30%",
        "--budget",
        "40s",
        "--inconclusive-ok",
    )
    assert code == 0
    assert document["outcome"] != "regression"
    assert "base and candidate are the same file" in err


def test_too_little_time_is_inconclusive(one_layer, tmp_path, capsys):
    sides, past = (one_layer(1), one_layer(2)), tmp_path / "past" / "history.jsonl"
    code, document, err = compare(capsys, *sides, "--shape", "tokens=4", "--budget", "1s", "--history", past)
    assert (code, document["outcome"]) == (11, "inconclusive")
    assert "more might tell" in err
    code, document, _ = compare(
        capsys,
        *sides,
        "--shape",
        "tokens=4",
        "--budget",
        "1s",
        "--inconclusive-ok",
        "--limit",
        "bytes=0.01%",
        "--history",
        past,
    )
    assert (code, document["outcome"]) == (10, "regression")  # of the bytes, which are exact
    lines = [json.loads(line) for line in past.read_text(encoding="utf-8").splitlines()]
    assert [line["outcome"] for line in lines] == ["inconclusive", "regression"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tolerance", "0"], "--tolerance: '0' is no share above 0 and below 100 %"),
        (["--tolerance", "-5%"], "--tolerance: '-5%' is no share"),
        (["--tolerance", "much"], "--tolerance: 'much' is no share"),
        (["--budget", "0.5s"], "--budget: '0.5s' is no time from 1 s to 60 m"),
        (["--budget", "soon"], "--budget: 'soon' is no time"),
        (["--limit", "speed=5%"], "--limit speed=5%: expected NAME=SHARE"),
        (["--limit", "p50=5%"], "--limit p50=5%: expected NAME=SHARE"),
        (["--limit", "bytes"], "--limit bytes: expected NAME=SHARE"),
        (["--limit", "bytes=200%"], "--limit bytes: '200%' is no share"),
        (["--shape", "tokens"], "--shape: 'tokens' is no AXIS=SIZE"),
        (["--shape", "tokens=0"], "--shape: 'tokens=0' is no AXIS=SIZE"),
        (["--device", "cpu-9t"], "cpu-9t"),
        ([], "the size of axis 'tokens' is open"),
    ],
)
def test_options_that_cannot_be_meant(options, message, one_layer, capsys):
    path = one_layer(1)
    code, document, _ = compare(capsys, path, path, *options)
    assert code == 2
    assert message in document["error"]["message"]


def test_packages_are_compared(package, capsys):
    code, document, _ = compare(
        capsys, package.folder, package.folder, "--tokens", 8, "--budget", "1s", "--inconclusive-ok"
    )
    assert code == 0
    assert document["device"] == "cpu-1t"
    assert document["sides"]["base"]["path"] == str(package.folder)
