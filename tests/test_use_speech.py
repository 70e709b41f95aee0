"""``edgelr run`` with sound files."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgelr.artifacts import Package
from edgelr.cli import cli
from edgelr.device.schema import Device
from edgelr.errors import DataError, UsageError
from edgelr.examples import Utterance
from edgelr.runtime.audio import read_audio
from edgelr.runtime.package import open_package
from edgelr.runtime.transcribe import open_transcriber, text_of, transcribe
from edgelr.terminal import run_command
from edgelr.use import answer

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
Spoken = Callable[[int, float], Any]


@pytest.fixture(scope="module")
def package(dense_speech: Package) -> Path:
    return dense_speech.folder


@pytest.fixture(scope="module")
def files(sounds: Path, utterances: tuple[Utterance, ...]) -> list[str]:
    return [str(sounds / each.audio) for each in utterances[:4]]


@pytest.fixture(scope="module")
def expected(dense_speech: Package, cpu: Device) -> Callable[..., list[str]]:
    """What is in files, each alone."""
    transcriber = open_transcriber(dense_speech, cpu)
    return lambda paths, **options: [
        text_of(transcribe(transcriber, [read_audio(Path(path))], **options)) for path in paths
    ]


# --- files ----------------------------------------------------------------------------------------------


def test_files_are_transcribed_a_line_each(
    package: Path, files: list[str], expected: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    document = answer(package, files, device="cpu-1t")
    outputs = expected(files)
    assert len(set(outputs)) == 4
    for row, path, output in zip(document["transcripts"], files, outputs, strict=True):
        seconds = len(read_audio(Path(path))) / 16_000
        assert row == {
            "input": path,
            "output": output,
            "seconds": seconds,
            "segments": [{"start_s": 0.0, "end_s": seconds, "text": row["segments"][0]["text"]}],
        }
        assert " ".join(row["segments"][0]["text"].split()) == output
    assert capsys.readouterr().out.splitlines() == outputs


def test_beams_and_length_are_those_asked_for(
    package: Path, files: list[str], expected: Callable[..., list[str]]
) -> None:
    found = answer(package, files, device="cpu-1t", beam=3, max_tokens=5)
    outputs = [row["output"] for row in found["transcripts"]]
    assert outputs == expected(files, beams=3, max_tokens=5) != expected(files)


def test_segments_are_lines_with_their_times(
    package: Path, speech: Spoken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([speech(number, 1.8) for number in range(3)]), 16_000)
    document = answer(package, [str(path)], device="cpu-1t", segments=True)
    (row,) = document["transcripts"]
    assert row["seconds"] == pytest.approx(5.4)
    assert len(row["segments"]) > 2
    lines = capsys.readouterr().out.splitlines()
    for line, segment in zip(lines, row["segments"], strict=True):
        start, end, text = (*line.split(maxsplit=2), "")[:3]
        assert (float(start), float(end)) == pytest.approx((segment["start_s"], segment["end_s"]), abs=0.005)
        assert text == segment["text"]
    ends = [segment["end_s"] for segment in row["segments"]]
    starts = [segment["start_s"] for segment in row["segments"]]
    assert all(start <= end for start, end in zip(starts[1:], ends, strict=False)), "no gap"


def test_a_long_file_is_one_text(package: Path, speech: Spoken, tmp_path: Path, cpu: Device) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.concatenate([speech(number, 1.8) for number in range(3)]), 16_000)
    assert run_command(cli, ["run", str(package), str(path)]) == 0
    (row,) = answer(package, [str(path)], device="cpu-1t")["transcripts"]
    assert row["output"].split()[0] == row["segments"][0]["text"].split()[0]


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(8000, 1, "PCM_U8"), (44_100, 2, "PCM_16"), (48_000, 1, "PCM_24"), (16_000, 6, "FLOAT")],
)
def test_any_rate_and_number_of_channels_can_be_heard(
    package: Path, speech: Spoken, tmp_path: Path, rate: int, channels: int, subtype: str
) -> None:
    pcm = np.repeat(speech(1, 1.0)[:, None], channels, 1)
    soundfile.write(tmp_path / "a.wav", pcm, rate, subtype=subtype)
    (row,) = answer(package, [str(tmp_path / "a.wav")], device="cpu-1t")["transcripts"]
    assert row["seconds"] == pytest.approx(16_000 / rate, abs=1e-3)
    assert row["output"]


@pytest.mark.parametrize("pcm", [np.full(1, 0.5), np.zeros(16_000), np.ones(8000), np.full(3000, -40.0)])
def test_odd_sounds_are_no_crash(package: Path, tmp_path: Path, pcm: Any) -> None:
    """One sample, silence, a constant, clipping."""
    soundfile.write(tmp_path / "a.wav", pcm.astype(np.float32), 16_000, subtype="FLOAT")
    (row,) = answer(package, [str(tmp_path / "a.wav")], device="cpu-1t")["transcripts"]
    assert row["seconds"] == len(pcm) / 16_000


def test_json_is_the_last_line(package: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(cli, ["run", str(package), *files[:2], "--json"]) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)["transcripts"]
    assert [row["input"] for row in rows] == files[:2]
    assert err.splitlines()[:-1] == [row["output"] for row in rows]
    assert re.fullmatch(r"  transcribing  2/2 \(100%\)  \d+\.\d s", err.splitlines()[-1])


def test_a_model_that_tells_times_is_asked_for_them(
    timed_speech: Package, files: list[str], cpu: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    timed = timed_speech.folder
    (row,) = answer(timed, files[-1:], device="cpu-1t", segments=True)["transcripts"]
    transcriber = open_transcriber(open_package(timed), cpu)
    (whole,) = transcribe(transcriber, [read_audio(Path(files[-1]))], times=True)
    assert [tuple(part.values()) for part in row["segments"]] == [
        (each.start_s, each.end_s, each.text) for each in whole.phrases
    ]
    assert len(capsys.readouterr().out.splitlines()) == len(row["segments"]) > 1
    (plain,) = answer(timed, files[-1:], device="cpu-1t")["transcripts"]
    assert [part["end_s"] for part in plain["segments"]] == [plain["seconds"]], "it was not asked"


# --- standard input -------------------------------------------------------------------------------------


def piped(package: Path, data: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgelr", "run", str(package), "-", *options]
    return subprocess.run(command, input=data, env=ENVIRONMENT, capture_output=True, check=False)


@pytest.mark.parametrize("kind", ["whisper", "ctc"])
def test_what_is_piped_in_is_what_the_file_is(
    package: Path, ctc_package: Package, speech: Spoken, tmp_path: Path, kind: str
) -> None:
    folder = package if kind == "whisper" else ctc_package.folder
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([speech(number, 1.7) for number in range(3)]), 16_000)
    (row,) = answer(folder, [str(path)], device="cpu-1t")["transcripts"]
    done = piped(folder, path.read_bytes(), "--json")
    assert (done.returncode, done.stderr.decode().splitlines()) == (0, [row["output"]])
    (found,) = json.loads(done.stdout)["transcripts"]
    assert found == row | {"input": "-"}
    raw = soundfile.read(path, dtype="int16")[0].astype("<i2").tobytes()
    assert piped(folder, raw).stdout.decode().splitlines() == [row["output"]]


def test_lines_come_while_the_pipe_is_open(ctc_package: Package, speech: Spoken) -> None:
    """As from a microphone: a window is told as soon as it is whole."""
    command = [sys.executable, "-m", "edgelr", "run", str(ctc_package.folder), "-", "--segments"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write((speech(0, 2.5) * 2**15).astype("<i2").tobytes())
        running.stdin.flush()
        first = running.stdout.readline().decode()
        assert first.startswith("    0.00     ")
        running.stdin.close()
        assert len(running.stdout.readlines()) == 1
    assert running.returncode == 0


def test_a_person_sees_what_is_said_while_it_is_said(ctc_package: Package, speech: Spoken) -> None:
    here, there = pty.openpty()
    command = [sys.executable, "-m", "edgelr", "run", str(ctc_package.folder), "-"]
    plain = {name: value for name, value in ENVIRONMENT.items() if name not in ("CI", "NO_COLOR")}
    done = subprocess.run(
        command,
        input=(np.concatenate([speech(0, 1.5), speech(1, 1.5)]) * 2**15).astype("<i2").tobytes(),
        stdout=subprocess.PIPE,
        stderr=there,
        env=plain | {"TERM": "xterm", "COLUMNS": "60"},
        check=True,
    )
    os.close(there)
    shown = [each.strip() for each in os.read(here, 100_000).decode().split("\r\x1b[K")]
    os.close(here)
    final = done.stdout.decode().strip()
    assert len(shown) > 3
    assert shown[0] == shown[-1] == "", "the line is clear at the end"
    assert shown[-2] == final[-59:].strip(), "the last that was shown is the text"
    assert len(set(shown)) > 3, "it grows"


def test_standard_input_may_be_among_files(
    package: Path, files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = io.BytesIO()
    soundfile.write(data, read_audio(Path(files[1])), 16_000, format="WAV", subtype="PCM_16")
    data.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    rows = answer(package, [files[0], "-", files[1]], device="cpu-1t")["transcripts"]
    assert [row["input"] for row in rows] == [files[0], "-", files[1]]
    assert rows[1]["output"] == rows[2]["output"]
    with pytest.raises(UsageError, match="standard input is named twice"):
        answer(package, ["-", "-"], device="cpu-1t")


def test_a_text_that_is_piped_in_is_no_sound(package: Path) -> None:
    done = piped(package, b"turn on the lights\n")
    assert done.returncode == 5
    assert b"standard input is no sound: it is text that begins with 'turn on the'" in done.stderr


# --- faults ---------------------------------------------------------------------------------------------


def nan(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.nan], np.float32), 16_000, subtype="FLOAT")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda p: p.write_text("hello\n"), "is no sound file: it is text that begins with 'hello'"),
    "empty": (lambda p: p.write_bytes(b""), "is an empty file"),
    "missing": (lambda p: None, "cannot be read: No such file"),
    "no samples": (lambda p: soundfile.write(p, np.zeros(0), 16_000), "is a sound without samples"),
    "NaN": (nan, r"sample 1 \(at 0\.000 s\) is not a finite number"),
    "a folder": (lambda p: p.mkdir(), "cannot be read: Is a directory"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_heard_is_named(package: Path, tmp_path: Path, fault: str) -> None:
    makes, message = FAULTS[fault]
    path = tmp_path / "odd.wav"
    makes(path)
    with pytest.raises(DataError, match=rf"odd\.wav:? ?{message}") as caught:
        answer(package, [str(path)], device="cpu-1t")
    assert caught.value.exit_code == 5


def test_files_before_a_fault_are_told(
    package: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.wav").write_text("hello\n")
    assert run_command(cli, ["run", str(package), files[0], str(tmp_path / "odd.wav"), files[1]]) == 5
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "odd.wav is no sound file" in err


def test_no_input_says_what_to_give(package: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no input\n.*sound files"):
        answer(package, [], device="cpu-1t")


@pytest.mark.parametrize("option", [{"top": 3}, {"vectors": True}, {"file": Path("x")}])
def test_options_of_another_task_are_refused(package: Path, files: list[str], option: dict[str, Any]) -> None:
    words = (
        rf"--{next(iter(option))} is not for .*, a package for automatic-speech-recognition\n"
        r".*--beam, --max-tokens, --segments"
    )
    with pytest.raises(UsageError, match=words) as caught:
        answer(package, files, device="cpu-1t", **option)
    assert caught.value.exit_code == 2


def test_segments_are_of_speech_only(make_package: Callable[..., Package]) -> None:
    with pytest.raises(UsageError, match=r"--segments is not for .*, a package for sentence-embedding"):
        answer(make_package().folder, ["x"], device="cpu-1t", segments=True)


# --- processes ------------------------------------------------------------------------------------------


def test_it_needs_neither_torch_nor_transformers(
    package: Path, files: list[str], expected: Callable[..., list[str]]
) -> None:
    code = f"""if True:
        import sys
        sys.modules["torch"] = sys.modules["transformers"] = None
        from edgelr.cli import main
        main(["run", {str(package)!r}, *{files!r}])
    """
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert re.fullmatch(r"  transcribing  4/4 \(100%\)  \d+\.\d s\n", done.stderr)
    assert done.stdout.splitlines() == expected(files)


def test_a_reader_that_goes_away_ends_it_quietly(package: Path, files: list[str]) -> None:
    command = " ".join([sys.executable, "-m", "edgelr", "run", str(package), *files * 3])
    line = f"{command} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ["0"]
    assert done.stderr == ""
