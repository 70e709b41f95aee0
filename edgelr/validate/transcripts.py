"""Accuracy of speech packages: their output next to references and to the dense model's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.examples import Utterance
from edgelr.metrics.speech import speech_scores
from edgelr.runtime.answers import transcripts_of
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.validate.outputs import dense_outputs

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from edgelr.metrics.scores import Scores


def score_transcripts(
    package: Package,
    sessions: Mapping[str, InferenceSession],
    reference: Package,
    each: Callable[[], object] | None,
) -> dict[str, Scores]:
    """Transcribe the examples greedily, one a call, and score them; see ``accuracy.score_variant``."""
    examples = folder_examples(package.folder, Utterance)
    dense = dense_outputs(reference, len(examples))
    sounds = (example_sound(package.folder, example) for example in examples)
    outputs = transcripts_of(package, sessions, sounds, each)
    return speech_scores(outputs, [example.text for example in examples], dense)


def score_dense_transcripts(package: Package) -> dict[str, Scores]:
    """Scores of the dense model, from its transcripts that are stored in the package."""
    examples = folder_examples(package.folder, Utterance)
    dense = dense_outputs(package, len(examples))
    return speech_scores(dense, [example.text for example in examples], dense)
