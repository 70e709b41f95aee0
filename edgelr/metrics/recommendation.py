"""Metrics of recommenders: whether likes are told from dislikes, and where likes are in the whole catalog.

An example is a user, so an interval is drawn over users. A user without a like has no place in recall and
NDCG, one without both a like and a dislike none in AUC: they count nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelr.examples import History
from edgelr.metrics.scores import Scores, Values, mean_scores

K = 20
"""Places of a ranking that count."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """What a model says of one user.

    Attributes:
        top: Rows of the best items that the user had not met before, best first, at most ``K``.
        liked: Scores of the items that they then liked.
        disliked: Of those that they did not.
    """

    top: Rows
    liked: Values
    disliked: Values


def top_items(scores: ArrayLike, seen: Sequence[int], k: int) -> Rows:
    """The best items, best first, without those that were seen; of equal scores the first row is better.

    Args:
        scores: Of the catalog, ``[items]``.
        seen: Rows to leave out.
        k: How many, at most.
    """
    left = np.array(scores, np.float64)
    left[list(seen)] = -np.inf
    wanted = min(k, len(left))
    least = np.partition(left, len(left) - wanted)[len(left) - wanted]
    best = np.flatnonzero(left >= least)  # more than wanted, where the last place is shared
    best = best[np.argsort(-left[best], kind="stable")][:wanted]
    return np.asarray(best[np.isfinite(left[best])], np.int64)


def ranked(scores: ArrayLike, example: History) -> Ranked:
    """What the metrics need of the scores of a catalog.

    Args:
        scores: ``[items]``.
        example: The user.
    """
    found = np.asarray(scores, np.float64)
    return Ranked(
        top=top_items(found, example.seen, K),
        liked=found[list(example.liked)],
        disliked=found[list(example.disliked)],
    )


def recommendation_scores(
    examples: Sequence[History], own: Sequence[Ranked], dense: Sequence[Ranked]
) -> dict[str, Scores]:
    """Every metric of task ``recommendation``.

    Args:
        examples: The users.
        own: What a model says of each.
        dense: What the dense model says.

    Returns:
        ``auc``: how often a like is scored above a dislike of the same user, ties half; a user weighs as much
        as they met. ``log_loss`` of all likes and dislikes, by log-odds. ``recall@20`` and ``ndcg@20`` of
        likes in the whole catalog but what was seen, ``overlap@20`` with the dense model's first 20: means
        over users.

    Source:
        Zhou et al., Deep Interest Network for Click-Through Rate Prediction (KDD 2018), equation 7, for AUC;
        Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques (2002), with a discount of
        ``1 / log2(1 + place)`` and gains of 0 and 1.
    """
    pairs = list(zip(own, examples, strict=True))
    met = np.array([len(each.liked) + len(each.disliked) for each in own])
    both = np.array([bool(len(each.liked) and len(each.disliked)) for each in own])
    some = np.array([bool(each.liked) for each in examples])
    overlaps = [_overlap(mine.top, theirs.top) for mine, theirs in zip(own, dense, strict=True)]
    return {
        "auc": _weighted([_auc(each) for each in own], met * both),
        "log_loss": _sums([_log_loss(each) for each in own], met),
        "recall@20": _weighted([_recall(each.top, wanted.liked) for each, wanted in pairs], some),
        "ndcg@20": _weighted([_ndcg(each.top, wanted.liked) for each, wanted in pairs], some),
        "overlap@20": mean_scores(np.array(overlaps)),
    }


def _overlap(own: Rows, dense: Rows) -> float:
    return float(np.isin(dense, own).mean()) if len(dense) else 1.0


def _auc(found: Ranked) -> float:
    above = found.liked[:, None] - found.disliked[None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean()) if above.size else 0.0


def _log_loss(found: Ranked) -> float:
    return float(np.logaddexp(0, -found.liked).sum() + np.logaddexp(0, found.disliked).sum())


def _recall(top: Rows, liked: Sequence[int]) -> float:
    return float(np.isin(top, liked).sum() / max(1, len(set(liked))))


def _ndcg(top: Rows, liked: Sequence[int]) -> float:
    discounts = 1 / np.log2(np.arange(2, K + 2))
    best = discounts[: max(1, len(set(liked)))].sum()
    return float((np.isin(top, liked) * discounts[: len(top)]).sum() / best)


def _weighted(values: Sequence[float], weights: NDArray[Any]) -> Scores:
    """The mean over users, each as much as it weighs."""
    return _sums(np.array(values) * weights, weights)


def _sums(totals: ArrayLike, counts: ArrayLike) -> Scores:
    statistics = np.stack([np.asarray(totals, np.float64), np.asarray(counts, np.float64)], axis=1)
    return Scores(statistics=statistics, combine=_ratio)


def _ratio(sums: Values, examples: int) -> Values:
    del examples
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1e-9))
