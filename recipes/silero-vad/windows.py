"""Windows of speech in noise, with the state that the voice activity model of silero-vad has at each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgelr.artifacts import Split
from edgelr.load.speech_rooms import colored_noise, in_a_room, mixed
from edgelr.load.speech_synthesis import SAMPLE_RATE
from edgelr.load.spoken import clean, draw_voice, phrases_of

_RECORDINGS, _PHRASES = 60, 3
_EVERY = 9  # windows: neighbours are alike
_WINDOW, _CONTEXT = 512, 64
Pcm = NDArray[np.float32]


def inputs() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Inputs of single windows, with the recording that they are of: no split shares one."""
    folder = importlib.util.find_spec("silero_vad").submodule_search_locations[0]
    model = onnxruntime.InferenceSession(Path(folder) / "data" / "silero_vad_16k_op15.onnx")
    for number, pcm in enumerate(islice(recordings("calibration", 0), _RECORDINGS)):
        state = np.zeros((2, 1, 128), np.float32)
        padded = np.concatenate([np.zeros(_CONTEXT, np.float32), pcm])
        for place in range(len(pcm) // _WINDOW):
            heard = padded[None, place * _WINDOW : (place + 1) * _WINDOW + _CONTEXT]
            call = {"input": heard, "state": state, "sr": np.array(SAMPLE_RATE, np.int64)}
            if place % _EVERY == number % _EVERY:
                yield f"recording {number}", call
            _, state = model.run(None, call)


def recordings(split: Split, seed: int) -> Iterator[Pcm]:
    """Endless recordings of a few phrases with pauses between, in noise of 0 to 30 dB below the speech.

    Args:
        split: Whose voices and phrases.
        seed: Of everything that is drawn.
    """
    phrases = phrases_of(split, seed)
    for number in range(10**9):
        random = np.random.default_rng([seed, *split.encode(), number])
        parts: list[Pcm] = []
        for phrase in islice(phrases, _PHRASES):
            parts.append(clean(phrase, draw_voice(split, random), random))
            parts.append(np.zeros(int(random.uniform(0.2, 2.0) * SAMPLE_RATE), np.float32))
        pcm = np.concatenate(parts)
        if random.random() < 1 / 3:
            pcm = in_a_room(pcm, random, reverberation_s=random.uniform(0.1, 0.4))
        slope, humps = random.uniform(0, 2), int(random.integers(0, 4))
        noise = colored_noise(len(pcm), random, slope=slope, humps=humps)
        yield mixed(pcm, noise, decibels=random.uniform(0, 30), loudness=random.uniform(0.1, 0.9))
