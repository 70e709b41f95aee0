"""A process behind a pipe: its answers, its end and its last words."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelr.device.schema import Device, Session
from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.runners import piped
from edgelr.runners.piped import PipedProcess, open_request

ECHO = """
import sys
from edgelr.runners.frames import pack, read
while (message := read(sys.stdin.buffer)) is not None:
    if message[0]["do"] == "leave":
        sys.exit("enough")
    sys.stdout.buffer.write(pack(*message))
    sys.stdout.flush()
"""


def process(device: Device, folder: Path, script: str, **more: object) -> PipedProcess:
    folder.mkdir()
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    return PipedProcess(device, [sys.executable, "-c", path + script], folder, hint="again", **more)  # type: ignore[arg-type]


def test_it_answers_and_is_gone_with_who_asked(cpu: Device, tmp_path: Path) -> None:
    one = process(cpu, tmp_path / "one", ECHO)
    header, arrays = one.ask({"do": "run"}, {"x": np.arange(3)})
    assert header == {"do": "run"}
    np.testing.assert_array_equal(arrays["x"], [0, 1, 2])
    with pytest.raises(UnsupportedModelError, match=r"'cpu-1t': its process ended \(exit code 1\): enough"):
        one.ask({"do": "leave"}, {})
    del one
    assert not (tmp_path / "one").exists()


def test_before_its_first_answer_it_was_not_reached(cpu: Device, tmp_path: Path) -> None:
    silent = process(cpu, tmp_path / "one", "sys.exit('who?')", silent=MissingRequirementError)
    with pytest.raises(MissingRequirementError, match=r"who\?") as caught:
        silent.ask({"do": "open"}, {})
    assert caught.value.hint == "again"


def test_one_that_hangs_is_given_up(cpu: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(UnsupportedModelError, match="gave no answer in 0 s"):
        process(cpu, tmp_path / "one", "import time; time.sleep(60)").ask({"do": "open"}, {})


def test_a_request_says_what_the_profile_says(cpu: Device) -> None:
    disabled = replace(cpu, session=Session(graph_optimization_level="disabled"), threads=0)
    request = open_request(disabled, {"a": "b"})
    assert (request["level"], request["threads"], request["entries"]) == ("ORT_DISABLE_ALL", 1, {"a": "b"})
    assert (open_request(cpu, {})["level"], request["fallback"]) == ("ORT_ENABLE_ALL", False)
