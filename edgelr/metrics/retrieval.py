"""Retrieval metrics, one value an example, so that an interval can be drawn around their mean.

Vectors are compared by their cosine; a zero vector has cosine 0 with everything. Among equal scores the
passage that comes first wins, so that the same vectors always give the same ranking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelr.metrics.scores import Scores, mean_scores

Vectors = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.float64]
Values = NDArray[np.float64]

# Closer scores are ties: equal vectors at different places of a matrix product differ in the last bits.
_TIE_DECIMALS = 9


def cosine_similarity(a: Vectors, b: Vectors) -> Values:
    """Cosine of each row of ``a`` with the same row of ``b``.

    Args:
        a: ``[n, dim]``.
        b: ``[n, dim]``.

    Returns:
        ``[n]``, each from -1 to 1.
    """
    return np.asarray(np.einsum("nd,nd->n", _unit(a), _unit(b)))


def top_ranked(queries: Vectors, passages: Vectors, k: int = 10) -> NDArray[np.int64]:
    """The passages most similar to each query, best first.

    Args:
        queries: ``[n, dim]``.
        passages: ``[m, dim]``.
        k: How many to return.

    Returns:
        Indices of passages ``[n, min(k, m)]``.
    """
    scores = np.round(_unit(queries) @ _unit(passages).T, _TIE_DECIMALS)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def reciprocal_rank(queries: Vectors, passages: Vectors, relevant: ArrayLike, k: int = 10) -> Values:
    """1 / the place of the relevant passage, 0 when it is not among the first ``k``; the mean is MRR@k.

    Args:
        queries: ``[n, dim]``.
        passages: ``[m, dim]``.
        relevant: Index of the relevant passage of each query, ``[n]``.
        k: Places that count.

    Returns:
        ``[n]``, each from 0 to 1.
    """
    hits = top_ranked(queries, passages, k) == np.asarray(relevant)[:, None]
    return np.asarray((hits / np.arange(1, hits.shape[1] + 1)).sum(axis=1))


def recall(queries: Vectors, passages: Vectors, relevant: ArrayLike, k: int = 10) -> Values:
    """1 when the relevant passage is among the first ``k``, else 0.

    Args:
        queries: ``[n, dim]``.
        passages: ``[m, dim]``.
        relevant: Index of the relevant passage of each query, ``[n]``.
        k: Places that count.

    Returns:
        ``[n]``.
    """
    hits = top_ranked(queries, passages, k) == np.asarray(relevant)[:, None]
    return np.asarray(hits.any(axis=1), np.float64)


def overlap(
    queries: Vectors, passages: Vectors, reference_queries: Vectors, reference_passages: Vectors, k: int = 10
) -> Values:
    """Share of the reference's first ``k`` passages that are among this model's first ``k``, in any order.

    Args:
        queries: ``[n, dim]``.
        passages: ``[m, dim]``.
        reference_queries: ``[n, reference dim]``.
        reference_passages: ``[m, reference dim]``.
        k: Places that count.

    Returns:
        ``[n]``, each from 0 to 1.
    """
    own = top_ranked(queries, passages, k)
    reference = top_ranked(reference_queries, reference_passages, k)
    shared = (own[:, :, None] == reference[:, None, :]).any(axis=2)
    return np.asarray(shared.mean(axis=1))


def sentence_embedding_scores(
    queries: Vectors, passages: Vectors, reference_queries: Vectors, reference_passages: Vectors
) -> dict[str, Scores]:
    """Every metric of task ``sentence-embedding``; the relevant passage of query i is passage i.

    Args:
        queries: ``[n, dim]``.
        passages: ``[m, dim]``, m >= n.
        reference_queries: The dense model's, ``[n, dim]``.
        reference_passages: The dense model's, ``[m, dim]``.

    Returns:
        Metric name -> its scores, all of them means: ``cosine`` to the dense model over n + m texts, queries
        first; ``mrr@10``, ``recall@10`` and ``overlap@10`` with the dense model over n.
    """
    relevant = np.arange(len(queries))
    values = {
        "cosine": np.concatenate(
            [cosine_similarity(queries, reference_queries), cosine_similarity(passages, reference_passages)]
        ),
        "mrr@10": reciprocal_rank(queries, passages, relevant),
        "recall@10": recall(queries, passages, relevant),
        "overlap@10": overlap(queries, passages, reference_queries, reference_passages),
    }
    return {metric: mean_scores(each) for metric, each in values.items()}


def _unit(vectors: Vectors) -> Values:
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Values = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    return unit
