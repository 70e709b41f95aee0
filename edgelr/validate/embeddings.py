"""Accuracy of sentence encoders: their vectors next to the dense model's, which travel in the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.examples import Example
from edgelr.metrics.retrieval import sentence_embedding_scores
from edgelr.runtime.answers import check_finite, vectors_of
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.text import embedding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from edgelr.metrics.scores import Scores

REFERENCE = "reference.npz"


def score_sentences(
    package: Package, session: InferenceSession, reference: Package, each: Callable[[], object] | None
) -> dict[str, Scores]:
    """Embed the examples and score the vectors; see ``accuracy.score_variant``."""
    pairs = scored_pairs(package)
    dense_queries, dense_passages = _dense(reference, len(pairs))
    queries, passages = vectors_of(package, session, pairs, each)
    if queries.shape[1] != dense_queries.shape[1]:
        raise DamagedArtifactError(
            f"{package.folder}: vectors have {queries.shape[1]} numbers, dense ones {dense_queries.shape[1]}"
        )
    return sentence_embedding_scores(queries, passages, dense_queries, dense_passages)


def score_dense_sentences(package: Package) -> dict[str, Scores]:
    """Scores of the dense model, from its vectors that are stored in the package."""
    vectors = _dense(package, len(scored_pairs(package)))
    return sentence_embedding_scores(*vectors, *vectors)


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
        check_finite(got, package)
        if got.shape != arrays[key].shape:
            raise DamagedArtifactError(
                f"{package.folder / REFERENCE}: {key} has shape {list(arrays[key].shape)}"
            )
        largest = max(largest, float(np.abs(got - arrays[key]).max()))
    return largest


def scored_pairs(package: Package) -> list[tuple[str, Example]]:
    """The examples of a package, each with its query.

    Raises:
        DamagedArtifactError: One has none, or the examples are unusable.
    """
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
