"""``edgelr run`` on a package that goes on with texts."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.cli import cli
from edgelr.device.schema import Device
from edgelr.errors import DataError, UsageError
from edgelr.runtime.continue_text import continue_tokens, open_writer, prompt_of
from edgelr.terminal import run_command
from edgelr.use import answer

ROOT = Path(__file__).parent.parent


@pytest.fixture
def package(dense_writer: Package) -> Path:
    return dense_writer.folder


def test_a_text_goes_on_as_it_comes(
    dense_writer: Package, cpu: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = answer(dense_writer.folder, ["the License"], device="cpu-1t", max_tokens=9)["continuations"]
    writer = open_writer(dense_writer, cpu)
    prompt = prompt_of(writer, "the License")
    tokens = list(continue_tokens(writer, prompt, 9))
    whole = writer.codec.decode([*prompt, *tokens])
    assert row["input"] + row["output"] == whole
    assert row["tokens"] == len(tokens)
    assert row["tokens_per_s"] > 0
    assert len(capsys.readouterr().out) == len(row["output"]) + 1


def test_several_texts_have_their_beginnings_above(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(package, ["one text", "another"], device="cpu-1t", max_tokens=2)
    out = capsys.readouterr().out
    assert out.startswith("one text …\n")
    assert "\n\nanother …\n" in out


def test_lines_of_standard_input_are_texts(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\n\ntwo\n")))
    found = answer(package, ["-"], device="cpu-1t", max_tokens=1)
    assert [row["input"] for row in found["continuations"]] == ["one", "two"]


def test_json_is_the_last_line(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(cli, ["run", str(package), "x", "--json", "--max-tokens", "3"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["continuations"]
    assert row["tokens"] <= 3


def test_faults_are_said(package: Path) -> None:
    with pytest.raises(UsageError, match="there is no input"):
        answer(package, [], device="cpu-1t")
    with pytest.raises(DataError, match="this package holds 64"):
        answer(package, ["word " * 200], device="cpu-1t")
    with pytest.raises(UsageError, match=r"--beam is not for .*, a package for text-generation"):
        answer(package, ["x"], device="cpu-1t", beam=4)


def test_a_reader_that_goes_away_ends_it_quietly_and_no_torch_is_loaded(package: Path) -> None:
    code = (
        "import sys; from edgelr.use import answer\n"
        f"answer(__import__('pathlib').Path({str(package)!r}), ['x'] * 50, device='cpu-1t')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy'\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    error = process.stderr.read()
    assert (process.wait(), error) == (0, b"")
