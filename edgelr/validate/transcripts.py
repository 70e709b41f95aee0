"""Accuracy of speech packages: their output next to references and to the dense model's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.examples import Utterance
from edgelr.metrics.speech import speech_scores
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.runtime.transcribe import Transcriber, text_of, transcribe, transcriber_of
from edgelr.validate.outputs import CheckedDecoder, dense_outputs

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
    transcriber = transcriber_of(package, sessions)
    if isinstance(transcriber, Transcriber):
        transcriber = replace(transcriber, decoder=CheckedDecoder(transcriber.decoder, package))
    outputs = []
    for example in examples:
        sound = example_sound(package.folder, example)
        text = text_of(transcribe(transcriber, [sound], beams=1))
        outputs.append(" ".join(text.split()))
        if each is not None:
            each()
    return speech_scores(outputs, [example.text for example in examples], dense)


def score_dense_transcripts(package: Package) -> dict[str, Scores]:
    """Scores of the dense model, from its transcripts that are stored in the package."""
    examples = folder_examples(package.folder, Utterance)
    dense = dense_outputs(package, len(examples))
    return speech_scores(dense, [example.text for example in examples], dense)
