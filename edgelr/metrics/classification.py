"""Metrics of labels that are chosen by the largest of several scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.metrics.scores import Scores, Values, mean_scores

Logits = NDArray[np.floating[Any]]


def classification_scores(own: Logits, dense: Logits, labels: NDArray[np.int64]) -> dict[str, Scores]:
    """Every metric of a classifier.

    Args:
        own: Scores of every label, ``[examples, labels]``.
        dense: The dense model's.
        labels: The right ones, ``[examples]``.

    Returns:
        ``accuracy``; ``f1``, the mean of the labels' F1 (macro), over those that occur; ``agreement``, the
        share of examples that the dense model gives the same label.
    """
    chosen, theirs = own.argmax(1), dense.argmax(1)
    return {
        "accuracy": mean_scores((chosen == labels).astype(np.float64)),
        "f1": _macro_f1(chosen, labels, own.shape[1]),
        "agreement": mean_scores((chosen == theirs).astype(np.float64)),
    }


def _macro_f1(chosen: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> Scores:
    """F1 is ``2 right / (chosen + there)``: three counts of every label, which can be summed."""
    said, true = np.eye(count)[chosen], np.eye(count)[labels]
    return Scores(statistics=np.hstack([said * true, said, true]), combine=_mean_f1)


def _mean_f1(sums: Values, _: int) -> Values:
    right, said, true = np.split(sums, 3, axis=-1)
    f1 = 2 * right / np.maximum(said + true, 1)
    occurs = (said + true) > 0
    mean: Values = (f1 * occurs).sum(-1) / occurs.sum(-1)
    return mean
