"""Sound that comes through a pipe, as from a microphone: wav, or raw samples."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from edgelr.errors import DataError
from edgelr.runtime.audio import SAMPLE_RATE, Pcm, resampled

_BLOCK_S = 0.1  # what a microphone gives at once; more would come late
_RAW_BYTES = 2  # 16 bits
_HEAD_BYTES = 12
_OTHERS = {b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"FORM": "aiff"}
_WHAT = (
    f"pipe wav, or raw samples of 16 bits, little endian, one channel, {SAMPLE_RATE} Hz "
    "(ffmpeg -i FILE -f wav - makes it of anything); give other kinds of files by their paths"
)


def stream_blocks(stream: BinaryIO, name: str) -> Iterator[Pcm]:
    """Read sound as it comes; memory does not grow with its length.

    Args:
        stream: wav of 8 to 32 bits, any sample rate and number of channels, whose header need not know its
            length; or raw samples: 16 bits, little endian, one channel, 16 kHz.
        name: What it is called in errors.

    Yields:
        PCM ``[samples]`` of 16 kHz, about -1 to 1, a tenth of a second each: at least one block.

    Raises:
        DataError: As it is read: there is nothing, something else, or wav that is damaged or compressed.
        MissingRequirementError: soxr is not installed, which only other rates need.
    """
    head = stream.read(_HEAD_BYTES)
    _check(head, name)
    source = _Unread(head, stream)
    blocks, rate = _wav(source, name) if head.startswith(b"RIFF") else (_raw(source), SAMPLE_RATE)
    yield from resampled(_none_empty(blocks, name), rate)


class _Unread:
    """A stream whose beginning was read already.

    Args:
        head: What was read.
        stream: The rest.
    """

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, count: int) -> bytes:
        taken, self._head = self._head[:count], self._head[count:]
        return taken + self._stream.read(count - len(taken)) if len(taken) < count else taken


def _check(head: bytes, name: str) -> None:
    if not head:
        raise DataError(f"{name} is empty", _WHAT)
    for mark, kind in _OTHERS.items():
        if head.startswith(mark):
            raise DataError(f"{name} is {kind}, which cannot be read from a pipe", _WHAT)
    text = head.decode("latin-1").rstrip()
    if not head.startswith(b"RIFF") and text.isascii() and text.isprintable():
        raise DataError(f"{name} is no sound: it is text that begins with {text!r}", _WHAT)


def _wav(source: _Unread, name: str) -> tuple[Iterator[Pcm], int]:
    try:
        # It stays open with the stream, and asks of it no more than read().
        file = wave.open(source)  # type: ignore[call-overload] # noqa: SIM115
    except (wave.Error, EOFError) as error:
        raise DataError(
            f"{name} is no wav that can be read: {error or 'it ends too early'}", _WHAT
        ) from error
    return _frames(file), file.getframerate()


def _frames(file: wave.Wave_read) -> Iterator[Pcm]:
    width, channels = file.getsampwidth(), file.getnchannels()
    count = max(1, round(_BLOCK_S * file.getframerate()))
    while data := file.readframes(count):
        whole = len(data) - len(data) % (width * channels)  # a pipe may break anywhere
        yield _numbers(data[:whole], width).reshape(-1, channels).mean(axis=1, dtype=np.float32)


def _raw(source: _Unread) -> Iterator[Pcm]:
    while data := source.read(_RAW_BYTES * round(_BLOCK_S * SAMPLE_RATE)):
        yield _numbers(data[: len(data) - len(data) % _RAW_BYTES], _RAW_BYTES)


def _numbers(data: bytes, width: int) -> Pcm:
    """Samples of so many bytes as numbers from -1 to 1."""
    samples = np.frombuffer(data, np.uint8).reshape(-1, width)
    wide = np.zeros((len(samples), 4), np.uint8)
    # Those of 8 bits have no sign; at the top of four bytes all others are as they are.
    wide[:, 4 - width :] = np.bitwise_xor(samples, 0x80) if width == 1 else samples
    numbers: Pcm = (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return numbers


def _none_empty(blocks: Iterator[Pcm], name: str) -> Iterator[Pcm]:
    found = False
    for block in blocks:
        if len(block):
            found = True
            yield block
    if not found:
        raise DataError(f"{name} is a sound without samples", _WHAT)
