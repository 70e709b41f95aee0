"""A whole transcript as what is timed: features, the encoder, and the decoder once a token."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.examples import Utterance
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.runtime.long_audio import Window, windows_of
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.package import FEATURES, open_package
from edgelr.runtime.timed_transcript import timed_transcript
from edgelr.runtime.tokens import open_codec
from edgelr.runtime.transcribe import (
    MODEL,
    ROLES,
    SAMPLE_RATE,
    AnyTranscriber,
    Transcriber,
    transcriber_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LISTENED = 50  # examples that tell how fast people speak
PARTS = ("features_ms", "encoder_ms", "decoder_ms")


class TimedTranscript:
    """A speech package, called like a session.

    Args:
        folder: The package.
        device: Where it runs.
        entries: Session settings on top of the package's and the device's.
        profile: Start of the names of its sessions' profiles, when there are to be some.

    Attributes:
        sessions: Of its graphs, by role.
        noted: Milliseconds of each part of every call so far.
    """

    def __init__(
        self, folder: Path, device: Device, entries: Mapping[str, str] = {}, profile: Path | None = None
    ) -> None:
        self._package = open_package(folder)
        roles = (FEATURES, MODEL) if MODEL in self._package.graphs else ROLES
        self.sessions = open_graphs(self._package, device, roles, entries, profile)
        self._transcriber = transcriber_of(self._package, self.sessions)
        self._tokens_a_second = tokens_a_second(self._package)
        self._most_tokens = most_tokens(self._transcriber)
        self._windows: dict[int, tuple[Window, ...]] = {}
        self.noted: dict[str, list[float]] = {name: [] for name in PARTS}

    def run(self, _: None, given: Mapping[str, NDArray[Any]]) -> None:
        """Transcribe ``audio_s`` seconds of speech greedily, with as many tokens as people say in that time.

        There are never more than a transcript may have.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on a graph.
        """
        seconds = int(given["audio_s"])
        if seconds not in self._windows:
            pcm = speech_of_length(self._package, seconds)
            self._windows[seconds] = tuple(windows_of([pcm], self._transcriber.window, SAMPLE_RATE))
        spent = [0.0] * len(PARTS)
        for window in self._windows[seconds]:
            said = round(self._tokens_a_second * (window.end_s - window.start_s))
            tokens = max(1, min(said, self._most_tokens))
            times = timed_transcript(self._transcriber, window.pcm, tokens)
            spent = [before + more for before, more in zip(spent, times, strict=True)]
        for name, time in zip(PARTS, spent, strict=True):
            self.noted[name].append(time * 1e3)


def tokens_a_second(package: Package) -> float:
    """How many tokens the examples of a package have in a second.

    Args:
        package: A speech package; 0 for one of a model with CTC, which has no tokens to be told.
    """
    if MODEL in package.graphs:
        return 0.0
    codec = open_codec(package.folder, package.settings)
    examples = folder_examples(package.folder, Utterance)[:_LISTENED]
    samples = sum(len(example_sound(package.folder, example)) for example in examples)
    tokens = sum(len(codec.encode_plain(example.text)) for example in examples)
    return tokens / (samples / SAMPLE_RATE)


def most_tokens(transcriber: AnyTranscriber) -> int:
    """How many tokens a transcript of a window may have, without start and prompt."""
    if not isinstance(transcriber, Transcriber):
        return 1
    generation = transcriber.generation
    return generation.max_length - 1 - len(generation.prompt_ids)


def speech_of_length(package: Package, seconds: int) -> NDArray[np.float32]:
    """So many seconds of the package's own examples, one after the other.

    Args:
        package: A speech package.
        seconds: How long.

    Returns:
        PCM ``[samples]`` of 16 kHz.
    """
    import numpy as np

    wanted, parts = seconds * SAMPLE_RATE, list[Any]()
    for example in itertools.cycle(folder_examples(package.folder, Utterance)):
        parts.append(example_sound(package.folder, example))
        if sum(map(len, parts)) >= wanted:
            break
    return np.concatenate(parts)[:wanted]
