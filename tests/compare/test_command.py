import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from edgelr.cli import cli
from edgelr.terminal import run_command


def compare(capsys, *arguments) -> tuple[int, dict, str]:
    code = run_command(cli, ["compare", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]), err


@pytest.mark.slow
def test_a_slower_graph_is_a_regression(
    one_layer, tmp_path, capsys, monkeypatch, check_junit, check_document
):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    files = {name: tmp_path / "out" / f"file.{name}" for name in ("junit", "svg")}
    options = [part for name, path in files.items() for part in (f"--{name}", path)]
    code, document, err = compare(
        capsys, one_layer(4), one_layer(40), "--shape", "tokens=128", "--budget", "2m", *options
    )
    assert code == 10
    check_document(document)
    assert document["error"]["exit"] == 10
    assert document["outcome"] == "regression"
    assert document["confirmed"]
    assert document["rows"][0]["ratio"] > 2
    assert "regression: p50" in err
    assert "grown: MatMul" in err
    check_junit(files["junit"].read_text(encoding="utf-8"))
    assert ET.parse(files["junit"]).getroot()[0].attrib["failures"] == "1"
    ET.parse(files["svg"])
    assert "regression" in (tmp_path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_graph_against_itself_is_never_a_regression(one_layer, capsys):
    path = one_layer(20)
    options = ["--shape", "tokens=128", "--tolerance", "30%", "--budget", "40s", "--inconclusive-ok"]
    code, document, err = compare(capsys, path, path, *options)
    assert code == 0
    assert document["outcome"] != "regression"
    assert "base and candidate are the same file" in err


def test_too_little_time_is_inconclusive(one_layer, tmp_path, capsys, check_document):
    sides, past = (one_layer(1), one_layer(2)), tmp_path / "past" / "history.jsonl"
    short = ["--shape", "tokens=4", "--budget", "1s", "--history", past]
    code, document, err = compare(capsys, *sides, *short)
    assert (code, document["outcome"]) == (11, "inconclusive")
    assert "more might tell" in err
    check_document(document)
    code, document, _ = compare(capsys, *sides, *short, "--inconclusive-ok", "--limit", "bytes=0.01%")
    assert (code, document["outcome"]) == (10, "regression")  # of the bytes, which are exact
    lines = [json.loads(line) for line in past.read_text(encoding="utf-8").splitlines()]
    assert [line["outcome"] for line in lines] == ["inconclusive", "regression"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tolerance", "0"], "--tolerance: '0' is no share above 0 and below 100 %"),
        (["--budget", "soon"], "--budget: 'soon' is no time"),
        (["--limit", "bytes=200%"], "--limit bytes: '200%' is no share"),
        (["--limit", "decoder=5%", "--shape", "tokens=4"], "limit for decoder, which base and candidate"),
        (["--shape", "tokens"], "--shape: 'tokens' is no AXIS=SIZE"),
        (["--shape", "tokens=0"], "--shape: 'tokens=0' is no AXIS=SIZE"),
        (["--device", "cpu-9t"], "cpu-9t"),
        (["--device", "web-wasm"], "'web-wasm' is not timed: its evidence is emulated, its runner web"),
        (["--recipe", "gone.yaml"], "gone.yaml"),
        ([], "the size of axis 'tokens' is open"),
    ],
)
def test_options_that_cannot_be_meant(options, message, one_layer, capsys):
    path = one_layer(1)
    code, document, _ = compare(capsys, path, path, *options)
    assert code == 2
    assert message in document["error"]["message"]


def test_a_side_that_cannot_run_is_named_before_anything_is_timed(one_layer, capsys, monkeypatch):
    path = one_layer(2, "broken.onnx")
    path.write_bytes(path.read_bytes()[:-30])
    code, document, _ = compare(capsys, one_layer(1), path, "--shape", "tokens=4")
    assert code == 12
    assert "broken.onnx" in document["error"]["message"]


def test_packages_are_compared_by_their_recipe(package, tiny_recipe, capsys, check_document):
    section = "compare: {tolerance: 0.2, budget_s: 1, tokens: 8}\n"
    tiny_recipe.write_text(tiny_recipe.read_text(encoding="utf-8") + section, encoding="utf-8")
    options = ["--recipe", tiny_recipe, "--inconclusive-ok"]
    code, document, err = compare(capsys, package.folder, package.folder, *options)
    assert code == 0
    check_document(document)
    assert document["device"] == "cpu-1t"
    assert document["rows"][0]["limit"] == 0.2
    assert document["sides"]["base"]["path"] == str(package.folder)
    assert "note: base and candidate are the same package" in err


def test_whole_tasks_are_compared(dense_translator, capsys, check_document):
    folder = dense_translator.folder
    options = ["--tokens", 8, "--budget", "1s", "--inconclusive-ok", "--limit", "decoder=50%"]
    code, document, _ = compare(capsys, folder, folder, *options)
    assert code == 0
    check_document(document)
    limits = {row["quantity"]: row["limit"] for row in document["rows"]}
    assert limits["decoder"] == 0.5
    assert {"encoder", "first_token", "first_call", "load", "memory", "bytes"} <= set(limits)


def test_a_revision_that_is_not_there_is_named(package, capsys):
    code, document, _ = compare(capsys, "no-such-revision:recipes/docs-search.yaml", package.folder)
    assert code == 2
    assert "no-such-revision:recipes/docs-search.yaml" in document["error"]["message"]
    assert not Path("no-such-revision").exists()
