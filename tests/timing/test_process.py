import sys
from pathlib import Path

import pytest

from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.timing.process import LostProcessError, ask, running_worker

LABEL = "candidate on cpu-1t"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_request_gets_its_reply() -> None:
    echo = python("import sys\nfor line in sys.stdin: print(line, end='', flush=True)")
    with running_worker(LABEL, echo) as worker:
        assert ask(worker, {"do": "warm", "n": 1}, seconds=20) == {"do": "warm", "n": 1}
        assert ask(worker, {"do": "time", "n": 2}, seconds=20) == {"do": "time", "n": 2}
    assert worker.process.returncode == 0


def test_a_worker_that_crashes_is_named_with_its_last_words() -> None:
    crash = python(
        "import sys, os; input(); sys.stderr.write('out of luck'); sys.stderr.flush(); os._exit(3)"
    )
    with running_worker(LABEL, crash) as worker:
        with pytest.raises(
            UnsupportedModelError, match=rf"{LABEL}: .*exit code 3 at 'time'(.|\n)*out of luck"
        ) as caught:
            ask(worker, {"do": "time"}, seconds=20)
        assert caught.value.exit_code == 4


def test_a_worker_that_is_killed_is_named_with_the_signal() -> None:
    shot = python("import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)")
    with (
        running_worker(LABEL, shot) as worker,
        pytest.raises(UnsupportedModelError, match=rf"{LABEL}: .*SIGKILL(.|\n)*out of memory"),
    ):
        ask(worker, {"do": "time"}, seconds=20)


def test_only_a_process_that_is_gone_is_lost() -> None:
    """What hangs, or says what is wrong, would do so again."""
    with running_worker(LABEL, python("raise SystemExit(7)")) as worker, pytest.raises(LostProcessError):
        ask(worker, {"do": "open"}, seconds=20)
    with (
        running_worker(LABEL, python("import time; time.sleep(600)")) as worker,
        pytest.raises(UnsupportedModelError) as hung,
    ):
        ask(worker, {"do": "time"}, seconds=0.2)
    assert not isinstance(hung.value, LostProcessError)


def test_a_worker_that_died_before_the_request_is_named() -> None:
    with running_worker(LABEL, python("raise SystemExit(7)")) as worker:
        worker.process.wait(20)
        with pytest.raises(UnsupportedModelError, match="exit code 7"):
            ask(worker, {"do": "open"}, seconds=20)


def test_a_worker_that_hangs_is_named_and_ended() -> None:
    with (
        running_worker(LABEL, python("import time; time.sleep(600)")) as worker,
        pytest.raises(UnsupportedModelError, match=f"{LABEL}: no answer to 'warm' after 0.2 s"),
    ):
        ask(worker, {"do": "warm"}, seconds=0.2)
    assert worker.process.returncode is not None


def test_what_the_worker_reports_is_raised_as_what_it_is() -> None:
    reply = '{"error": {"exit": 12, "found": "model.onnx is broken", "hint": "build it again"}}'
    with (
        running_worker(LABEL, python(f"input(); print({reply!r}, flush=True); input()")) as worker,
        pytest.raises(DamagedArtifactError, match=rf"{LABEL}: model\.onnx is broken\n  build it again"),
    ):
        ask(worker, {"do": "open"}, seconds=20)


def test_a_worker_ends_with_whoever_started_it() -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        running_worker(LABEL, python("import sys; sys.stdin.read()")) as worker,
    ):
        raise KeyboardInterrupt
    assert worker.process.returncode == 0


def test_the_real_worker_imports_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    with running_worker(LABEL) as worker:
        worker.process.poll()
    assert worker.process.returncode == 0, "it would have ended with 'taken over'"
