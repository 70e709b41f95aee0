"""Sound through a pipe: wav of any kind, raw samples, and what is neither."""

import io
import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgelr.errors import DataError
from edgelr.runtime.audio import SAMPLE_RATE, read_audio
from edgelr.runtime.audio_stream import stream_blocks


class Pipe(io.RawIOBase):
    """Bytes that come a few at a time and cannot be sought."""

    def __init__(self, data: bytes, at_once: int = 1000) -> None:
        self._data, self._at_once = data, at_once

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece, self._data = self._data[: self._at_once], self._data[self._at_once :]
        piece, rest = piece[: len(buffer)], piece[len(buffer) :]
        self._data = rest + self._data
        buffer[: len(piece)] = piece
        return len(piece)


def heard(data: bytes, at_once: int = 1000) -> Any:
    return np.concatenate(list(stream_blocks(io.BufferedReader(Pipe(data, at_once)), "standard input")))


def wav(path: Path, pcm: Any, rate: int = SAMPLE_RATE, subtype: str = "PCM_16") -> bytes:
    soundfile.write(path, pcm, rate, subtype=subtype)
    return path.read_bytes()


@pytest.fixture(scope="module")
def pcm() -> Any:
    return (0.3 * np.random.default_rng(0).standard_normal(12_345)).clip(-1, 0.99).astype(np.float32)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8000, 1)])
def test_wav_is_what_the_file_is(pcm: Any, tmp_path: Path, subtype: str, rate: int, channels: int) -> None:
    data = wav(tmp_path / "a.wav", np.repeat(pcm[:, None], channels, 1), rate, subtype)
    expected = read_audio(tmp_path / "a.wav")
    found = heard(data)
    assert found.dtype == np.float32
    # Filters of another block size round differently.
    np.testing.assert_allclose(found, expected, atol=1e-6 if rate == SAMPLE_RATE else 2e-4)


@pytest.mark.parametrize("at_once", [1, 7, 100_000])
def test_raw_samples_are_16_bits_of_16_khz(pcm: Any, at_once: int) -> None:
    samples = (pcm * 2**15).astype("<i2")
    np.testing.assert_array_equal(heard(samples.tobytes(), at_once), samples / np.float32(2**15))
    cut = heard(samples.tobytes()[:-1], at_once)
    assert len(cut) == len(samples) - 1, "half a sample is none"


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0xFFFFFFFF])
def test_a_header_need_not_know_the_length(pcm: Any, tmp_path: Path, length: int) -> None:
    """As a recorder writes it, which does not know it either."""
    data = wav(tmp_path / "a.wav", pcm)
    at = data.index(b"data") + 4
    endless = data[:at] + struct.pack("<I", length) + data[at + 4 :]
    np.testing.assert_array_equal(heard(endless), read_audio(tmp_path / "a.wav"))


def test_blocks_come_as_the_sound_does(pcm: Any) -> None:
    read, write = os.pipe()
    half = (pcm[:8000] * 2**15).astype("<i2").tobytes()
    with os.fdopen(read, "rb") as reading, os.fdopen(write, "wb") as writing:
        writer = threading.Thread(target=lambda: (writing.write(half), writing.flush()))
        writer.start()
        blocks = stream_blocks(reading, "standard input")
        found = [next(blocks) for _ in range(5)]
        writer.join()
        assert [len(block) for block in found] == [1600] * 5, "while the pipe is open"


FAULTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "one byte": (b"\x01", "is a sound without samples"),
    "text": (b"turn on the lights\n", "is no sound: it is text that begins with 'turn on the'"),
    "a word": (b"hi\n", "is no sound: it is text"),
    "flac": (b"fLaC" + bytes(40), "is flac, which cannot be read from a pipe"),
    "ogg": (b"OggS" + bytes(40), "is ogg, which"),
    "a cut header": (
        b"RIFF\x24\0\0\0WAVEfmt ",
        "is no wav that can be read: fmt chunk and/or data chunk missing",
    ),
    "no wav": (b"RIFF\x24\0\0\0AVI LIST" + bytes(40), "is no wav that can be read: not a WAVE file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_sound_is_said(fault: str) -> None:
    data, message = FAULTS[fault]
    with pytest.raises(DataError, match=f"^standard input {message}") as caught:
        heard(data)
    assert "pipe wav, or raw samples of 16 bits" in str(caught.value)


def test_wav_of_numbers_with_a_point_is_said(pcm: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="standard input is no wav that can be read: unknown format"):
        heard(wav(tmp_path / "a.wav", pcm, subtype="FLOAT"))


def test_wav_without_samples_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="standard input is a sound without samples"):
        heard(wav(tmp_path / "a.wav", np.zeros(0)))
