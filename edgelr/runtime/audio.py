"""Sound files as models of speech take them: one channel, 16 kHz, numbers from -1 to 1."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.errors import DataError, MissingRequirementError

Pcm = NDArray[np.float32]
SAMPLE_RATE = 16_000  # what speech models take
INSTALL = "pip install 'edgelr[speech]'"

_BLOCK_S = 10.0
_BLOCK_VALUES = 1 << 20  # of all channels: what a block takes does not depend on rate and channels
_FULL_SCALE = 1 << 15  # of 16 bits
_HEAD_BYTES = 40
_ANOTHER_FILE = "give a file of sound (wav, flac, ogg, mp3, aiff); ffmpeg makes one of almost anything"


def audio_blocks(path: Path, rate: int = SAMPLE_RATE) -> Iterator[Pcm]:
    """Read a sound file block by block; memory does not grow with its length.

    Channels are averaged. Samples beyond full scale stay as they are: resampling makes them of clipped ones.

    Args:
        path: Whatever libsndfile reads, of any sample rate and number of channels: wav (8 to 32 bits, float),
            flac, ogg, mp3, aiff.
        rate: Samples a second of what is returned.

    Yields:
        PCM ``[samples]``, about -1 to 1: at least one block, none of them empty.

    Raises:
        DataError: As it is read: the file is missing, empty or no sound, has no samples, is damaged, or a
            sample is not a finite number.
        MissingRequirementError: soundfile is not installed, or soxr, which only other rates need.
    """
    with _opened(path) as file:
        yield from resampled(_mono_blocks(file, path), file.samplerate, rate)


def resampled(blocks: Iterable[Pcm], before: int, rate: int = SAMPLE_RATE) -> Iterator[Pcm]:
    """Sound at another rate, block by block.

    Args:
        blocks: PCM ``[samples]``, at least one sample in all.
        before: Their samples a second.
        rate: Those of what is returned.

    Yields:
        PCM ``[samples]``: at least one block, none of them empty.

    Raises:
        MissingRequirementError: soxr is not installed, which only other rates need.
    """
    if before == rate:
        yield from blocks
        return
    resampler = _soxr().ResampleStream(before, rate, 1)
    given = 0
    for block in blocks:
        piece = resampler.resample_chunk(block)
        given += len(piece)
        if len(piece):
            yield piece
    rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(rest):
        yield rest
    elif not given:
        yield np.zeros(1, np.float32)  # shorter than one sample of the new rate


def read_audio(path: Path) -> Pcm:
    """Read a short sound file as a whole.

    Args:
        path: As of ``audio_blocks``.

    Returns:
        PCM ``[samples]`` of 16 kHz, at least one sample.

    Raises:
        DataError, MissingRequirementError: As of ``audio_blocks``.
    """
    return np.concatenate(list(audio_blocks(path)))


def seconds_of(path: Path) -> float:
    """How long a sound file is, by its header.

    Args:
        path: As of ``audio_blocks``.

    Raises:
        DataError: The file is missing, empty or no sound, or has no samples.
        MissingRequirementError: soundfile is not installed.
    """
    with _opened(path) as file:
        if not file.frames:
            raise _no_samples(path)
        return float(file.frames / file.samplerate)


def write_flac(path: Path, pcm: Pcm) -> None:
    """Write 16-bit FLAC of 16 kHz; what was 16-bit before is read again exactly.

    Args:
        path: The file; its folder exists.
        pcm: ``[samples]``, at least one; what is beyond -1 to 1 is clipped.

    Raises:
        ValueError: There are no samples, several channels, or one is not finite.
        OSError: It cannot be written.
        MissingRequirementError: soundfile is not installed.
    """
    if pcm.ndim != 1 or not len(pcm) or not np.isfinite(pcm).all():
        raise ValueError(f"not a sound of one channel: {list(pcm.shape)} samples, or some are not finite")
    scaled = np.rint(pcm.astype(np.float64) * _FULL_SCALE).clip(-_FULL_SCALE, _FULL_SCALE - 1)
    encoded = io.BytesIO()  # libsndfile would call a full disk a system error
    _soundfile().write(encoded, scaled.astype(np.int16), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    path.write_bytes(encoded.getvalue())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as soundfile has it."""
    soundfile = _soundfile()
    try:
        with path.open("rb") as raw:
            head = raw.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    if not head:
        raise DataError(f"{path} is an empty file", _ANOTHER_FILE)
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        # TypeError: a .raw file, of which nobody knows rate and format.
        raise DataError(f"{path} is no sound file: {_reason(head, error)}", _ANOTHER_FILE) from error
    with file:
        yield file


def _reason(head: bytes, error: Exception) -> str:
    # The last letter may be cut.
    text = head.decode("utf-8", errors="replace").split("\n")[0].replace("\t", " ").rstrip("\r\ufffd")
    return f"it is text that begins with {text!r}" if text and text.isprintable() else str(error)


def _mono_blocks(file: Any, path: Path) -> Iterator[Pcm]:  # noqa: ANN401 - soundfile is not typed
    """Blocks of the mean of all channels, at the file's own rate; at least one."""
    frames = max(1, min(int(_BLOCK_S * file.samplerate), _BLOCK_VALUES // file.channels))
    read = 0
    while len(block := _next_block(file, frames, path)):
        mono: Pcm = block.mean(axis=1)
        wrong = np.flatnonzero(~np.isfinite(mono))
        if len(wrong):
            at = read + int(wrong[0])
            raise DataError(
                f"{path}: sample {at} (at {at / file.samplerate:.3f} s) is not a finite number",
                "write the file again, from what made it, without NaN and infinity",
            )
        read += len(mono)
        yield mono
    if not read:
        raise _no_samples(path)


def _next_block(file: Any, frames: int, path: Path) -> NDArray[np.float32]:  # noqa: ANN401
    """``[frames, channels]``, fewer at the end, then none."""
    try:
        block: NDArray[np.float32] = file.read(frames, dtype="float32", always_2d=True)
    except _soundfile().LibsndfileError as error:
        raise DataError(f"{path} is damaged: {error}", "get or record it again") from error
    return block


def _no_samples(path: Path) -> DataError:
    return DataError(f"{path} is a sound without samples", "record it again, or take it out")


def _soundfile() -> Any:  # noqa: ANN401 - soundfile is not typed
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its libsndfile is missing
        raise MissingRequirementError(f"soundfile is not installed: {error}", INSTALL) from error
    return soundfile


def _soxr() -> Any:  # noqa: ANN401 - soxr is not typed
    try:
        import soxr
    except ImportError as error:
        raise MissingRequirementError(f"soxr is not installed: {error}", INSTALL) from error
    return soxr
