"""What a metric of the task loses by quantization, on examples that are not those of the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import DataError, UnsupportedModelError
from edgelr.examples import Example, Translation, Utterance
from edgelr.quantize.calibration import Data
from edgelr.recipe.quantize import MaxDrop, Scheme

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from edgelr.metrics.scores import Scores

    Sessions = Mapping[str, InferenceSession]
    Answer = Callable[[Package, Sessions], Any]
    Score = Callable[[Any, Any], Mapping[str, Scores]]


def drop_of(package: Package, data: Data, scheme: Scheme, wanted: MaxDrop) -> Callable[[Path], float]:
    """A function that says what a metric loses against the fp32 package, which is scored once, here.

    Args:
        package: The fp32 package.
        data: Its validation examples are scored.
        scheme: What the quantized package will be called.
        wanted: The metric.

    Returns:
        (folder with the quantized graphs) -> the fp32 package's metric less theirs.

    Raises:
        DataError: There is no example that can be scored.
        UnsupportedModelError: The task is unknown.
    """
    answer, score = _task_of(package, data)
    exact = answer(package, _open(package, package.folder))
    best = score(exact, exact)[wanted.metric].value
    named = replace(package, precision=scheme)

    def drop(folder: Path) -> float:
        return best - score(answer(named, _open(package, folder)), exact)[wanted.metric].value

    return drop


def _open(package: Package, folder: Path) -> Sessions:
    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session

    device = load_devices()["cpu-1t"]
    return {role: open_session(folder / graph.file, device) for role, graph in package.graphs.items()}


def _task_of(package: Package, data: Data) -> tuple[Answer, Score]:
    """What a package answers to the examples, and what that is worth next to what fp32 answers."""
    scored = [each for each in data.validation if each.scored]
    if not scored:
        raise DataError("quantize.max_drop: there is no validation example to measure the metric on")
    match package.task:
        case "sentence-embedding":
            return _vectors([each for each in scored if isinstance(each, Example)])
        case "translation":
            return _texts([each for each in scored if isinstance(each, Translation)])
        case "automatic-speech-recognition":
            assert data.sounds is not None, "its examples are sounds"
            return _transcripts([each for each in scored if isinstance(each, Utterance)], data.sounds)
        case _:
            raise UnsupportedModelError(
                f"{package.folder}: the task {package.task!r} is unknown", "update edgelr"
            )


def _vectors(examples: Sequence[Example]) -> tuple[Answer, Score]:
    from edgelr.metrics.retrieval import sentence_embedding_scores
    from edgelr.runtime.answers import vectors_of

    pairs = [(each.query or "", each) for each in examples]
    return (
        lambda package, sessions: vectors_of(package, sessions["model"], pairs),
        lambda own, exact: sentence_embedding_scores(*own, *exact),
    )


def _transcripts(examples: Sequence[Utterance], sounds: Path) -> tuple[Answer, Score]:
    from edgelr.metrics.speech import speech_scores
    from edgelr.runtime.answers import transcripts_of
    from edgelr.runtime.examples import example_sound

    references = [each.text for each in examples]
    heard = [example_sound(sounds, each) for each in examples]
    return (
        lambda package, sessions: transcripts_of(package, sessions, heard),
        lambda own, exact: speech_scores(own, references, exact),
    )


def _texts(examples: Sequence[Translation]) -> tuple[Answer, Score]:
    from edgelr.metrics.translation import translation_scores
    from edgelr.runtime.answers import references_of, translations_of

    references = references_of(examples)
    return (
        lambda package, sessions: translations_of(package, sessions, examples),
        lambda own, exact: translation_scores(own, references, exact),
    )
