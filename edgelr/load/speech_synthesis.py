"""Speech of texts by espeak-ng, through the wheel that carries it: many voices, speeds and pitches."""

from __future__ import annotations

import _ctypes
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgelr.errors import DataError, MissingRequirementError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # what speech models take
INSTALL = "pip install 'edgelr[speech]'"

# Of espeak-ng's speak_lib.h.
_RETRIEVAL, _NO_EVENTS, _UTF8, _POSITION_CHARACTER = 1, 0, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_OK = 0
_SEED = 1
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How a text is spoken.

    Attributes:
        name: Accent and speaker, such as ``en-us+f2``.
        words_per_minute: Speed, 80 to 450.
        pitch: 0 to 99; 50 is the speaker's own.
        range: Of the pitch, 0 (monotone) to 99.
    """

    name: str
    words_per_minute: int = 175
    pitch: int = 50
    range: int = 50


def speak(text: str, voice: Voice) -> NDArray[np.float32]:
    """Speak a text; the same text and voice are the same samples, whatever was spoken before.

    Args:
        text: English.
        voice: How.

    Returns:
        PCM ``[samples]`` of 16 kHz, -1 to 1.

    Raises:
        MissingRequirementError: espeak-ng or soxr is not installed.
        DataError: There is no such voice, or nothing was said.
    """
    import numpy as np

    soxr = _soxr()
    pieces: list[NDArray[np.int16]] = []

    def keep(samples: Any, count: int, _: object) -> int:  # noqa: ANN401 - a pointer of ctypes
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _Callback(keep)
    with _synthesizer() as (library, rate):
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.name.encode()) != _OK:
            raise DataError(f"espeak-ng has no voice {voice.name!r}", "see its list of voices")
        parameters = ((_RATE, voice.words_per_minute), (_PITCH, voice.pitch), (_RANGE, voice.range))
        for parameter, value in parameters:
            library.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        library.espeak_Synth(data, len(data), 0, _POSITION_CHARACTER, 0, _UTF8, None, None)
        library.espeak_Synchronize()
    if not pieces:
        raise DataError(f"espeak-ng says nothing for {text!r}", "leave this text out of the utterances")
    pcm = np.concatenate(pieces).astype(np.float32) / 32768
    spoken: NDArray[np.float32] = soxr.resample(pcm, rate, SAMPLE_RATE)
    return spoken


@contextmanager
def _synthesizer() -> Iterator[tuple[Any, int]]:
    """The library, loaded anew, and its sample rate.

    It seeds itself by the time of day, and goes on with its phases and random numbers where it was: only a
    fresh one says everything the same. That takes less than a millisecond. The breath of some voices (klatt
    6) is of the C library's own numbers, which anyone in the process may have drawn from.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingRequirementError("espeak-ng is not installed", INSTALL) from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        rate = library.espeak_Initialize(_RETRIEVAL, 0, str(espeakng_loader.get_data_path()).encode(), 0)
        if rate <= 0:
            raise MissingRequirementError("espeak-ng cannot be started: its data is not found", INSTALL)
        library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
        ctypes.CDLL(None).srand(_SEED)
        yield library, rate
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def _soxr() -> Any:  # noqa: ANN401 - soxr is not typed
    try:
        import soxr
    except ImportError as error:
        raise MissingRequirementError("soxr is not installed", INSTALL) from error
    return soxr
