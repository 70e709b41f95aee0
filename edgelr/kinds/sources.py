"""What the first graph of a package reads, of its examples: texts as tokens, sounds as features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.examples import Translation, Utterance
from edgelr.runtime.package import FEATURES, model_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Source = dict[str, NDArray[Any]]


def text_sources(package: Package, examples: Sequence[Translation]) -> list[Source]:
    """Tokens and mask of each text, ``[1, tokens]``.

    Args:
        package: Of translations.
        examples: Their sources are read.
    """
    import numpy as np

    from edgelr.runtime.tokens import open_codec

    codec = open_codec(package.folder, package.settings)
    prefix = str(package.settings.get("prefix", ""))
    found = []
    for example in examples:
        ids = np.array([codec.cut(codec.encode(prefix + example.source))], np.int64)
        found.append({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return found


def sound_sources(package: Package, examples: Iterable[Utterance], sounds: Path) -> list[Source]:
    """Features of each sound: of its first window, or of as much as there is where a model reads any length.

    Args:
        package: Of speech, in fp32.
        examples: Their sounds are read.
        sounds: What their paths are relative to.
    """
    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.runtime.decoder_graph import WAVEFORM, heard_by
    from edgelr.runtime.examples import example_sound
    from edgelr.runtime.graph import run_graph
    from edgelr.runtime.long_audio import padded_window
    from edgelr.runtime.transcribe import MODEL, SHORTEST

    features = open_session(model_path(package, FEATURES), load_devices()["cpu-1t"])
    size = int(package.settings["window_samples"])
    graph = package.graphs.get(MODEL) or package.graphs["encoder"]
    unpadded = heard_by(entry.name for entry in graph.inputs) == WAVEFORM
    found: list[Source] = []
    for example in examples:
        sound = example_sound(sounds, example)[:size]
        pcm = padded_window(sound, max(len(sound), SHORTEST) if unpadded else size)
        found.append(dict(run_graph(features, {"pcm": pcm})))
    return found
