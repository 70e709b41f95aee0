"""Accuracy on the package's own examples: the same code, texts and reference for every variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgelr.artifacts import AccuracyRow, Package
from edgelr.errors import UnsupportedModelError
from edgelr.examples import Translation, Utterance
from edgelr.metrics.bootstrap import difference, interval
from edgelr.runtime.examples import folder_examples
from edgelr.validate import embeddings, transcripts, translations

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from edgelr.metrics.scores import Scores

    Sessions = Mapping[str, InferenceSession]


def score_variant(
    package: Package, sessions: Sessions, reference: Package, each: Callable[[], object] | None = None
) -> dict[str, Scores]:
    """Run a variant on its examples and score it against the dense model.

    Args:
        package: The variant.
        sessions: Its graphs by role, open on the device.
        reference: The package whose stored dense outputs count, the same for every variant.
        each: Called after every text.

    Returns:
        Metric name -> its scores.

    Raises:
        DamagedArtifactError: Examples and reference do not fit each other.
        ExportError, QuantizeError: An output is not finite.
        UnsupportedModelError: The task is unknown, or the graph does not fit it.
    """
    match package.task:
        case "sentence-embedding":
            return embeddings.score_sentences(package, sessions["model"], reference, each)
        case "translation":
            return translations.score_translations(package, sessions, reference, each)
        case "automatic-speech-recognition":
            return transcripts.score_transcripts(package, sessions, reference, each)
        case _:
            raise _unknown_task(package)


def reference_scores(package: Package) -> dict[str, float]:
    """Every metric of the dense model, from the outputs of it that are stored in the package.

    Args:
        package: Any variant.

    Raises:
        DamagedArtifactError: Examples and reference do not fit each other.
        UnsupportedModelError: The task is unknown.
    """
    match package.task:
        case "sentence-embedding":
            found = embeddings.score_dense_sentences(package)
        case "translation":
            found = translations.score_dense_translations(package)
        case "automatic-speech-recognition":
            found = transcripts.score_dense_transcripts(package)
        case _:
            raise _unknown_task(package)
    return {metric: scores.value for metric, scores in found.items()}


def texts_to_score(package: Package) -> int:
    """How many texts ``score_variant`` runs, for a progress bar.

    Args:
        package: Any variant.

    Raises:
        DamagedArtifactError: The examples are unusable.
    """
    match package.task:
        case "translation":
            return len(folder_examples(package.folder, Translation))
        case "automatic-speech-recognition":
            return len(folder_examples(package.folder, Utterance))
        case _:
            return 2 * len(embeddings.scored_pairs(package))


def parity_difference(package: Package, sessions: Sessions) -> float | None:
    """Largest difference from torch's outputs on the stored cases; None for a task that stores none.

    Of translations, what the dense model said in torch is stored for every example: ``agreement`` counts.

    Args:
        package: The variant.
        sessions: Its graphs by role, open on the device.

    Raises:
        DamagedArtifactError: A case is incomplete.
        ExportError, QuantizeError: An output is not finite.
        UnsupportedModelError: The graph fails.
    """
    if package.task != "sentence-embedding":
        return None
    return embeddings.parity_difference(package, sessions["model"])


def accuracy_rows(scores: Mapping[str, Scores], *, variant: str, device: str) -> tuple[AccuracyRow, ...]:
    """Value and 95 % bootstrap interval of every metric.

    Args:
        scores: By metric name.
        variant: What the rows name.
        device: What the rows name.
    """
    rows = []
    for metric, found in scores.items():
        value, low, high = interval(found)
        rows.append(
            AccuracyRow(
                variant=variant,
                device=device,
                metric=metric,
                value=value,
                ci95=(low, high),
                examples=found.examples,
            )
        )
    return tuple(rows)


def difference_notes(scores: Mapping[str, Mapping[str, Scores]], *, device: str) -> tuple[str, ...]:
    """Say of every metric how far the candidate is from the dense model, on the same examples.

    The paired interval is much tighter than what the two intervals of their own suggest.

    Args:
        scores: By variant and metric name.
        device: What the notes name.
    """
    candidate, dense = scores.get("candidate"), scores.get("dense-fp32")
    if candidate is None or dense is None:
        return ()
    notes = []
    for metric, found in candidate.items():
        change, low, high = difference(found, dense[metric])
        notes.append(
            f"{metric}, candidate less dense-fp32: {change:+.4f} [{low:+.4f}, {high:+.4f}] ({device}, paired)"
        )
    return tuple(notes)


def scoring_notes(package: Package) -> tuple[str, ...]:
    """Say of metrics that others publish too exactly which ones they are.

    Args:
        package: Any variant.

    Raises:
        MissingRequirementError: What scores the task is not installed.
    """
    if package.task != "translation":
        return ()
    from edgelr.metrics.translation import signatures

    metrics: dict[str, list[str]] = {}
    for metric, signature in signatures().items():
        metrics.setdefault(signature, []).append(metric)
    return tuple(f"{', '.join(names)} by sacrebleu: {signature}" for signature, names in metrics.items())


def _unknown_task(package: Package) -> UnsupportedModelError:
    return UnsupportedModelError(f"{package.folder}: the task {package.task!r} is unknown", "update edgelr")
