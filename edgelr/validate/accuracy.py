"""Accuracy on the package's own examples: the same code, texts and reference for every variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgelr.artifacts import AccuracyRow, Package
from edgelr.errors import DamagedArtifactError, ExportError, QuantizeError, UnsupportedModelError
from edgelr.examples import Example
from edgelr.metrics.bootstrap import difference, interval
from edgelr.metrics.retrieval import sentence_embedding_scores
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.text import embed, embedding, package_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    from edgelr.metrics.scores import Scores

REFERENCE = "reference.npz"


def score_variant(
    package: Package, session: InferenceSession, reference: Package, each: Callable[[], object] | None = None
) -> dict[str, Scores]:
    """Run a variant on its examples and score it against the dense model.

    Args:
        package: The variant.
        session: Its graph, open on the device.
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
            return _score_sentences(package, session, reference, each)
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
            dense_queries, dense_passages = _dense(package, len(_pairs(package)))
            found = sentence_embedding_scores(dense_queries, dense_passages, dense_queries, dense_passages)
            return {metric: scores.value for metric, scores in found.items()}
        case _:
            raise _unknown_task(package)


def texts_to_score(package: Package) -> int:
    """How many texts ``score_variant`` runs, for a progress bar.

    Args:
        package: Any variant.

    Raises:
        DamagedArtifactError: The examples are unusable.
    """
    return 2 * len(_pairs(package))


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


def parity_difference(package: Package, session: InferenceSession) -> float:
    """Largest absolute difference between this session's and torch's fp32 outputs on the stored cases.

    The cases have several lengths, padding and more than one text a batch: what single texts never exercise.
    For a quantized variant the difference is mostly that of quantization.

    Args:
        package: The variant.
        session: Its graph, open on the device.

    Raises:
        DamagedArtifactError: A case is incomplete.
        ExportError, QuantizeError: An output is not finite.
        UnsupportedModelError: The graph fails.
    """
    import numpy as np

    arrays = read_arrays(package.folder / REFERENCE)
    names = ("input_ids", "attention_mask")
    largest = 0.0
    for key in sorted(name for name in arrays if name.startswith("embedding.")):
        case = key.removeprefix("embedding.")
        if any(f"{name}.{case}" not in arrays for name in names):
            raise DamagedArtifactError(f"{package.folder / REFERENCE}: parity case {case} is incomplete")
        got = embedding(session, {name: arrays[f"{name}.{case}"] for name in names})
        _check_finite(got, package)
        if got.shape != arrays[key].shape:
            raise DamagedArtifactError(
                f"{package.folder / REFERENCE}: {key} has shape {list(arrays[key].shape)}"
            )
        largest = max(largest, float(np.abs(got - arrays[key]).max()))
    return largest


def _score_sentences(
    package: Package, session: InferenceSession, reference: Package, each: Callable[[], object] | None
) -> dict[str, Scores]:
    pairs = _pairs(package)
    dense_queries, dense_passages = _dense(reference, len(pairs))
    tokenizer: Tokenizer = package_tokenizer(package)
    queries = embed(session, tokenizer, [query for query, _ in pairs], each)
    passages = embed(session, tokenizer, [example.passage for _, example in pairs], each)
    for vectors in (queries, passages):
        _check_finite(vectors, package)
    if queries.shape[1] != dense_queries.shape[1]:
        raise DamagedArtifactError(
            f"{package.folder}: vectors have {queries.shape[1]} numbers, dense ones {dense_queries.shape[1]}"
        )
    return sentence_embedding_scores(queries, passages, dense_queries, dense_passages)


def _pairs(package: Package) -> list[tuple[str, Example]]:
    examples = folder_examples(package.folder, Example)
    pairs = [(example.query, example) for example in examples if example.query is not None]
    if len(pairs) != len(examples):
        raise DamagedArtifactError(
            f"{package.folder / 'examples.jsonl'}: an example has no query to find it by"
        )
    return pairs


def _dense(package: Package, count: int) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    path = package.folder / REFERENCE
    arrays = read_arrays(path, ["dense_queries", "dense_passages"])
    queries, passages = arrays["dense_queries"], arrays["dense_passages"]
    if queries.ndim != 2 or queries.shape != passages.shape or len(queries) != count:
        raise DamagedArtifactError(
            f"{path}: dense outputs {list(queries.shape)}, {list(passages.shape)} do not fit {count} examples"
        )
    return queries, passages


def _check_finite(vectors: NDArray[np.float32], package: Package) -> None:
    import numpy as np

    if np.isfinite(vectors).all():
        return
    error = ExportError if package.precision == "fp32" else QuantizeError
    raise error(
        f"{package.folder}: the {package.precision} graph of {package.name} gives NaN or infinity",
        "build it again with another scheme or keep share, or leave quantize out",
    )


def _unknown_task(package: Package) -> UnsupportedModelError:
    return UnsupportedModelError(f"{package.folder}: the task {package.task!r} is unknown", "update edgelr")
