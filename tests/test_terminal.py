"""Every way a command can end."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from edgelr.errors import DataError, GateError
from edgelr.terminal import (
    aligned,
    failure,
    finite,
    is_numeric,
    run_command,
    say,
    say_line,
    say_over,
    say_part,
)


def command(action: Callable[[], object]) -> click.Command:
    """A command that does one thing, with the --json flag that all commands have."""
    option = click.option("--json", is_flag=True, expose_value=False)
    return click.command()(option(action))


def raising(error: BaseException) -> click.Command:
    def action() -> None:
        raise error

    return command(action)


def greet() -> dict[str, object]:
    say("hello")
    return {"greeting": "hello", "share": float("nan")}


def last_line(text: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(text.splitlines()[-1])
    return found


def test_a_command_prints_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command(greet), []) == 0
    assert capsys.readouterr() == ("hello\n", "")


def test_with_json_stdout_is_the_document_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command(greet), ["--json"]) == 0
    assert capsys.readouterr() == ('{"greeting": "hello", "share": null}\n', "hello\n")


def test_an_input_after_two_dashes_is_not_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    @click.argument("text")
    def echo(text: str) -> dict[str, str]:
        say(text)
        return {}

    assert run_command(echo, ["--", "--json"]) == 0
    assert capsys.readouterr().out == "--json\n"


def test_an_expected_failure_ends_with_its_message_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = DataError("pairs.tsv:3: one column, two are needed", "add the passage")
    assert run_command(raising(error), ["--json"]) == 5
    out, err = capsys.readouterr()
    assert err == "edgelr: pairs.tsv:3: one column, two are needed\n  add the passage\n"
    message = "pairs.tsv:3: one column, two are needed\n  add the passage"
    assert last_line(out) == {"error": {"exit": 5, "message": message}}


def test_a_failure_may_come_with_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> dict[str, object]:
        return {"mrr": 0.5, **failure(GateError("a gate failed: mrr"))}

    assert run_command(command(action), ["--json"]) == 9
    found = last_line(capsys.readouterr().out)
    assert found == {"mrr": 0.5, "error": {"exit": 9, "message": "a gate failed: mrr"}}


def test_a_usage_error_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command(greet), ["--jsn", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "No such option" in err
    assert last_line(out)["error"]["exit"] == 2


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(KeyboardInterrupt()), ["--json"]) == 130
    out, err = capsys.readouterr()
    assert "run the same command again to resume" in err
    assert last_line(out)["error"]["exit"] == 130


def test_a_bug_leaves_its_traceback_in_a_named_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(ZeroDivisionError("division by zero")), ["--json"]) == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "this is a bug in edgelr: ZeroDivisionError: division by zero" in err
    assert "please report it" in err
    log = Path(err.split("the traceback is in ")[1].split(";")[0])
    assert "Traceback (most recent call last)" in log.read_text(encoding="utf-8")
    log.unlink()
    assert last_line(out)["error"]["exit"] == 1


def test_a_bug_where_no_file_can_be_written_is_still_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert run_command(raising(ZeroDivisionError()), []) == 1
    assert "no log file could be written; the traceback:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/full/x"), 13, "/full/x: No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "/ro/x"), 13, "/ro/x: Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 13, "/root/x: Permission denied"),
        (
            ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"),
            3,
            "pip install 'edgelr[build]'",
        ),
    ],
)
def test_what_can_happen_anywhere_is_no_bug(
    error: Exception, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(error), []) == code
    assert words in capsys.readouterr().err


def test_any_other_missing_module_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(ModuleNotFoundError("No module named 'edgelr.x'", name="edgelr.x")), []) == 1
    Path(capsys.readouterr().err.split("the traceback is in ")[1].split(";")[0]).unlink()


def test_help_has_no_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command(greet), ["--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage:")


@pytest.mark.parametrize("lines", [1, 100_000], ids=["at the last flush", "in the middle"])
def test_a_reader_that_went_away_is_no_bug(lines: int) -> None:
    code = f"""if True:
        import sys, click
        from edgelr.terminal import run_command, say
        @click.command()
        def talk():
            for number in range({lines}):
                say("line")
        sys.stdin.read()
        sys.exit(run_command(talk, []))
    """
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        error = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert error == b""


def test_control_c_is_exit_130_without_a_traceback() -> None:
    code = """if True:
        import sys, time, click
        from edgelr.terminal import run_command, say
        @click.command()
        def wait():
            say("ready")
            time.sleep(60)
        sys.exit(run_command(wait, []))
    """
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        error = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert error == "edgelr: interrupted\n  what is finished is kept; run the same command again to resume\n"


def test_what_would_steer_a_terminal_is_taken_out(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[31mb\u202ec\rd\te\nfür")
    assert capsys.readouterr().out == "a\ufffd[31mb\ufffdc\ufffdd   e\nfür\n"


def test_finite_replaces_at_any_depth() -> None:
    value = {"a": [1.5, float("inf"), (float("nan"), "x", None, True)], "b": {"c": float("-inf"), "d": 3}}
    assert finite(value) == {"a": [1.5, None, [None, "x", None, True]], "b": {"c": None, "d": 3}}


def test_a_line_of_text_keeps_what_languages_need(capsys: pytest.CaptureFixture[str]) -> None:
    text = "n\u00b0\u00a05\u202f; \u0645\u06cc\u200c\u0631\u0648\u0645 \u3000 \U0001f469\u200d\U0001f467"
    say_line(text)
    say_line("a\x1b[31mb\nc\td\0e\x9bf\u2028g")
    assert capsys.readouterr().out == f"{text}\na\ufffd[31mb c d\ufffde\ufffdf g\n"


def test_a_terminal_that_lacks_a_sign_is_no_crash() -> None:
    code = "from edgelr.terminal import say_line; say_line('caf\\xe9 \\u20ac')"
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert done.stdout == b"caf\xe9 ?\n"


def test_a_text_is_shown_over_the_one_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    say_over("one two three\x1b[31m")
    say_over("")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "\r\x1b[Khree [31m\r\x1b[K"), "as much of its end as fits"


def test_a_table_is_aligned() -> None:
    assert aligned(["site", "rank"], [["a.query", "64"], ["b", "-"]]) == [
        "site     rank",
        "-------  ----",
        "a.query  64",
        "b        -",
    ]
    assert aligned(["site", "ms"], [["b", "1.5 ms"]])[-1] == "b     1.5 ms"
    assert is_numeric(["1", "2.5 %", "x"])
    assert not is_numeric(["1", "x"])


def test_a_part_of_a_text_keeps_its_lines_and_ends_none(capsys: pytest.CaptureFixture[str]) -> None:
    say_part("a\x1b[31mb\n")
    say_part("c\td\u2028")
    assert capsys.readouterr().out == "a\ufffd[31mb\nc\td\ufffd"
