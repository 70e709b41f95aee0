"""What a person sees: a live display on a real terminal, plain lines in a real pipe, nothing when quiet."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgelr import progress as progress_module
from edgelr.errors import StorageError
from edgelr.progress import Progress, duration, is_plain

SCRIPT = """
import sys, time
from pathlib import Path
from edgelr.progress import Progress

log = Path(sys.argv[2]) if len(sys.argv) > 2 else None
progress = Progress(log=log)
with progress.stage("survey", "every [bold]site[/bold]"):
    with progress.bar("calibration", 20) as advance:
        for step in range(20):
            time.sleep(0.01)
            advance(note=f"loss {step}")
        if sys.argv[1] == "fail":
            raise SystemExit("broken")
        if sys.argv[1] == "interrupt":
            raise KeyboardInterrupt
    progress.note("evil \\x1b[31mname\\r\\x07")
    progress.warn("rank 8 is small")
progress.table("Layers", ["site", "rank"], [["a.query", "64"], ["b", "128"]])
progress.summary("passed", [("package", "build/docs-search/package"), ("size", "17.1 MB")])
print('{"passed": true}')
"""
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def environment(**changes: str) -> dict[str, str]:
    clean = {
        name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "FORCE_COLOR")
    }
    return clean | {"TERM": "xterm-256color", "COLUMNS": "100"} | changes


def in_a_pipe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=60)


def on_a_terminal(*arguments: str, **changes: str) -> tuple[int, str, str]:
    """Run with a pseudo-terminal as stderr; returns exit code, stdout (a pipe) and what was shown."""
    here, there = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=there, env=environment(**changes)
    ) as process:
        os.close(there)
        shown = b""
        while True:
            try:
                piece = os.read(here, 65536)
            except OSError:  # Linux says EIO when the last writer is gone
                break
            if not piece:
                break
            shown += piece
        stdout = process.communicate(timeout=60)[0]
    os.close(here)
    return process.returncode, stdout.decode(), shown.decode()


# --- a pipe ----------------------------------------------------------------------------------------


def test_plain_lines_in_a_pipe() -> None:
    result = in_a_pipe("done")
    lines = result.stderr.splitlines()
    assert CONTROL.search(result.stderr) is None
    assert lines[0] == "survey  every [bold]site[/bold]"
    assert re.fullmatch(r"  calibration  20/20 \(100%\)  0\.\d s  loss 19", lines[1])
    assert lines[2].startswith("  evil ") and lines[2].endswith("[31mname\ufffd\ufffd")
    assert lines[3] == "warning: rank 8 is small"
    assert re.fullmatch(r"survey  done in 0\.\d s", lines[4])
    assert lines[5:] == [
        "Layers",
        "  site     rank",
        "  -------  ----",
        "  a.query    64",
        "  b         128",
        "passed",
        "  package  build/docs-search/package",
        "  size     17.1 MB",
    ]
    assert result.stdout == '{"passed": true}\n'


def test_a_failure_in_a_pipe() -> None:
    result = in_a_pipe("fail")
    assert re.search(r"^survey  failed after 0\.\d s$", result.stderr, re.MULTILINE)
    assert "calibration" not in result.stderr


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}])
def test_plain_lines_when_the_environment_says_so(changes: dict[str, str]) -> None:
    _, stdout, shown = on_a_terminal("done", **changes)
    assert CONTROL.search(shown.replace("\r\n", "\n")) is None
    assert "calibration  20/20 (100%)" in shown
    assert stdout == '{"passed": true}\n'


# --- a terminal ------------------------------------------------------------------------------------


def test_a_live_display_on_a_terminal() -> None:
    code, stdout, shown = on_a_terminal("done")
    assert code == 0
    assert "\x1b[?25l" in shown and shown.rindex("\x1b[?25h") > shown.rindex(
        "\x1b[?25l"
    )  # the cursor is back
    assert "every [bold]site[/bold]" in shown
    assert re.search(r"calibration.*\d+/20.*loss \d+", shown)
    assert "\x1b[31mname" not in shown
    assert "\x07" not in shown
    assert "survey  done in" in shown
    assert re.search(r"│ b +│ +128 │", shown)
    assert "╭─ passed" in shown
    assert stdout == '{"passed": true}\n'


def test_nothing_of_the_display_stays() -> None:
    _, _, shown = on_a_terminal("done")
    after = shown[shown.rindex("\x1b[?25h") :]
    assert "calibration" not in after
    assert after.index("survey  done in") < after.index("Layers") < after.index("passed")


def test_a_result_on_the_same_terminal_stands_above_the_display() -> None:
    code = """if True:
        from edgelr.progress import Progress
        from edgelr.terminal import say_line
        with Progress().bar("files", 3) as advance:
            for number in range(3):
                say_line(f"text [b]{number}[/b]")
                advance()
    """
    here, there = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=there, stderr=there, env=environment(), check=True
    )
    os.close(there)
    shown = os.read(here, 100_000).decode()
    os.close(here)
    assert done.returncode == 0
    for number in range(3):
        assert re.search(rf"\x1b\[2Ktext \[b\]{number}\[/b\]\r\n", shown), "on a line that was cleared"
    assert shown.rindex("text [b]2[/b]") < shown.rindex("files")


@pytest.mark.parametrize(("how", "word"), [("fail", "failed"), ("interrupt", "interrupted")])
def test_an_error_stops_the_display(how: str, word: str) -> None:
    code, _, shown = on_a_terminal(how)
    assert code != 0
    assert "\x1b[?25l" in shown
    after = shown[shown.rindex("\x1b[?25h") :]
    assert "\x1b[?25l" not in after
    assert f"survey  {word} after" in after
    assert ("broken" if how == "fail" else "KeyboardInterrupt") in after


# --- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [False, True])
def test_the_log_has_every_line_with_its_time(tmp_path: Path, terminal: bool) -> None:
    log = tmp_path / "out" / "build.log"
    (on_a_terminal if terminal else in_a_pipe)("done", str(log))
    texts = []
    for line in log.read_text().splitlines():
        stamp, text = line.split("  ", 1)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", stamp)
        assert CONTROL.search(text) is None
        texts.append(text)
    assert texts[0] == "survey  every [bold]site[/bold]"
    assert "calibration  20/20 (100%)" in texts[1]
    assert texts[-1] == "  size     17.1 MB"
    assert len(texts) == 13


def test_the_log_of_an_earlier_build_stays(tmp_path: Path) -> None:
    for text in ("first", "second"):
        Progress(quiet=True, log=tmp_path / "build.log").note(text)
    assert [line.split()[-1] for line in (tmp_path / "build.log").read_text().splitlines()] == [
        "first",
        "second",
    ]


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match="a file is in the place of a folder"):
        Progress(quiet=True, log=tmp_path / "out" / "build.log").note("text")


# --- in this process --------------------------------------------------------------------------------


def test_quiet_prints_nothing_and_keeps_the_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=True, plain=False)
    with progress.stage("survey"), progress.bar("calibration", 3) as advance:
        advance()
    progress.note("note")
    progress.warn("careful")
    progress.summary("passed", [("size", "1")])
    progress.table("Layers", ["site"], [["a"]])
    assert capfd.readouterr() == ("", "")
    assert progress.warnings == ["careful"]


def test_two_do_not_share_anything() -> None:
    one, other = Progress(quiet=True), Progress(quiet=True)
    one.warn("careful")
    assert other.warnings == []


def test_a_reused_stage_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(plain=True)
    with progress.stage("export", "the dense model"):
        progress.reused("export")
    with progress.stage("export", "the candidate"):
        pass
    ends = capsys.readouterr().err.splitlines()[1::2]
    assert [line.split("  ")[1].split(" in")[0] for line in ends] == ["reused", "done"]


def test_an_interrupted_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Progress(plain=True).stage("finetune"):
        raise KeyboardInterrupt
    assert "finetune  interrupted after 0.0 s" in capsys.readouterr().err


def shares(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return re.findall(r"\((\d+%)\)", capsys.readouterr().err)


def test_a_slow_bar_tells_every_tenth(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LINE_AFTER_S", 0.0)
    with Progress(plain=True).bar("tuning", 1000) as advance:
        for _ in range(500):
            advance(2)
    assert shares(capsys) == [f"{share}%" for share in range(10, 101, 10)]


def test_a_very_slow_bar_tells_every_quarter_of_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_S", 0.0)
    with Progress(plain=True).bar("tuning", 100) as advance:
        for _ in range(3):
            advance()
    assert shares(capsys) == ["1%", "2%", "3%"]


def test_a_bar_that_stops_early_or_has_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(plain=True)
    with progress.bar("tuning", 100) as advance:
        advance(40, note="no better result")
    with progress.bar("nothing", 0):
        pass
    with progress.bar("more", 0) as advance:
        advance()
    assert re.sub(r"  0\.\d s", "", capsys.readouterr().err).splitlines() == [
        "  tuning  40/100 (40%)  no better result",
        "  more  1/0 (100%)",
    ]


def test_an_empty_table_and_summary(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(plain=True)
    progress.table("Layers", ["site", "rank"], [])
    progress.summary("passed", [])
    assert capsys.readouterr().err.splitlines() == ["Layers", "  site  rank", "  ----  ----", "passed"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (3720, "1 h 02 min"),
    ],
)
def test_durations_read_like_speech(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_environment_that_asks_for_plain_lines() -> None:
    assert all(is_plain(asked) for asked in ({"NO_COLOR": "1"}, {"CI": "1"}, {"TERM": "dumb"}))
    _, _, shown = on_a_terminal("done", CI="false", NO_COLOR="")
    assert "\x1b[?25l" in shown


def test_nothing_heavy_is_imported() -> None:
    heavy = "{'rich', 'filelock', 'numpy', 'torch', 'onnx'}"
    script = f"import sys, edgelr.progress, edgelr.store; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
