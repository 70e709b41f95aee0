"""``edgelr run`` as a translator and as a filter."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgelr.artifacts import Package
from edgelr.cli import cli
from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.runtime.translate import open_translator, translate
from edgelr.terminal import run_command
from edgelr.use import answer

ROOT = Path(__file__).parent.parent
LINES = ("a file", "Every stage, in order.", "x", "The hash of everything.")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def package(translation_package: Package) -> Path:
    return translation_package.folder


@pytest.fixture
def expected(translation_package: Package, cpu: Device) -> Callable[..., list[str]]:
    """What the lines are, each alone."""
    translator = open_translator(translation_package, cpu)
    return lambda lines=LINES, **options: list(translate(translator, lines, **options))


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def command(package: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "edgelr", "run", str(package), *arguments]


# --- texts ------------------------------------------------------------------------------------------


def test_texts_are_translated_a_line_each(
    package: Path, expected: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    document = answer(package, LINES, device="cpu-1t")
    outputs = expected()
    assert document == {
        "translations": [{"input": text, "output": found} for text, found in zip(LINES, outputs, strict=True)]
    }
    assert capsys.readouterr().out.splitlines() == outputs


def test_beams_and_length_are_those_asked_for(package: Path, expected: Callable[..., list[str]]) -> None:
    found = answer(package, LINES, device="cpu-1t", beam=1, max_tokens=4)
    outputs = [row["output"] for row in found["translations"]]
    assert outputs == expected(beams=1, max_tokens=4) != expected()


@pytest.mark.parametrize("option", [{"top": 3}, {"vectors": True}])
def test_options_of_a_search_are_refused(package: Path, option: dict[str, Any]) -> None:
    words = (
        rf"--{next(iter(option))} is not for .*, a package for translation\n.*--file, --beam, --max-tokens"
    )
    with pytest.raises(UsageError, match=words):
        answer(package, ["x"], device="cpu-1t", **option)


def test_no_input_says_what_to_give(package: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no input\n.*standard input, or --file"):
        answer(package, [], device="cpu-1t")


def test_a_long_text_has_a_note_on_stderr(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(cli, ["run", str(package), "word " * 1000, "--beam", "1"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert err.startswith("note: text 1 has ")


def test_json_is_the_last_line(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(cli, ["run", str(package), "x", "", "--json", "--beam", "1"]) == 0
    out, err = capsys.readouterr()
    first, second = json.loads(out)["translations"]
    assert first["input"] == "x"
    assert second == {"input": "", "output": ""}
    assert err == f"{first['output']}\n\n"


# --- lines ------------------------------------------------------------------------------------------


def test_a_line_in_is_a_line_out(
    package: Path, expected: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    give(monkeypatch, "\ufeffa file\r\n\n   \nx\n\n\U0001f642\u2028 \0 y".encode())
    answer(package, ["-"], device="cpu-1t", beam=1)
    lines = ("a file", "", "   ", "x", "", "\U0001f642\u2028 \0 y")
    assert capsys.readouterr().out.split("\n")[:-1] == expected(lines, beams=1)


def test_nothing_in_is_nothing_out(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, b"")
    assert answer(package, ["-"], device="cpu-1t") == {"translations": []}
    assert capsys.readouterr() == ("", "")


def test_what_is_not_utf8_is_replaced_and_said_once(
    package: Path,
    expected: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    give(monkeypatch, "caf\xe9\nx\nna\xefve\n".encode("latin-1"))
    document = answer(package, ["-"], device="cpu-1t", beam=1)
    lines = ["caf\ufffd", "x", "na\ufffdve"]
    assert [row["input"] for row in document["translations"]] == lines
    out, err = capsys.readouterr()
    assert out.splitlines() == expected(lines, beams=1)
    assert err == "edgelr: standard input is not all UTF-8; what is not is replaced by \ufffd\n"


def test_a_file_comes_after_texts_and_standard_input(
    package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"three\n\nf\xffve\n")
    give(monkeypatch, b"two\n")
    arguments = ["run", str(package), "one", "-", "--file", str(path), "--beam", "1", "--json"]
    assert run_command(cli, arguments) == 0
    out, err = capsys.readouterr()
    inputs = [row["input"] for row in json.loads(out)["translations"]]
    assert inputs == ["one", "two", "three", "", "f\ufffdve"]
    assert f"edgelr: {path} is not all UTF-8" in err


def test_a_file_that_is_not_there_is_exit_2(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(cli, ["run", str(package), "--file", "nowhere.txt"]) == 2
    assert "nowhere.txt" in capsys.readouterr().err


def test_a_filter_answers_line_by_line_without_torch_and_pydantic(
    package: Path, expected: Callable[..., list[str]]
) -> None:
    code = f"""if True:
        import sys
        sys.modules["torch"] = sys.modules["transformers"] = sys.modules["pydantic"] = None
        from edgelr.cli import main
        main(["run", {str(package)!r}, "-"])
    """
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line, output in zip(LINES, expected(), strict=True):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == output + "\n", "before the next line is given"
        process.stdin.close()
        assert process.stdout.read() == ""
    assert process.returncode == 0


def test_a_reader_that_goes_away_ends_it_quietly(package: Path) -> None:
    line = f"yes a file | {' '.join(command(package, '-', '--beam', '1'))} | head -1; echo ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.endswith("\n0\n")
    assert done.stderr == ""
