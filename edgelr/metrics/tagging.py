"""Metrics of tags that every word of a text is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgelr.metrics.scores import Scores, Values

Tags = Sequence[Sequence[str]]
"""Tags of the words, a text an entry."""

OUTSIDE = "O"


def tagging_scores(own: Tags, right: Tags, dense: Tags) -> dict[str, Scores]:
    """Every metric of tags.

    Args:
        own: A model's.
        right: Those of the examples.
        dense: The dense model's.

    Returns:
        ``accuracy``, the share of words with the right tag; ``f1`` of the parts of the texts that are named
        (whole, and of the right kind); ``agreement``, the share of words that the dense model tags alike.

    Source:
        Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task (2003), for the F1.
    """
    return {"accuracy": _equal(own, right), "f1": _span_f1(own, right), "agreement": _equal(own, dense)}


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Parts that are named: (first word, the word after the last, kind).

    A part begins with ``B-kind`` and goes on with ``I-kind``; an ``I-`` without a beginning, of another kind
    than the word before, begins one. A tag without such a prefix is a part of one word.

    Args:
        tags: Of the words of a text.
    """
    found, start, kind = set(), 0, ""
    for at, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, name = tag.partition("-")
        goes_on = prefix == "I" and name == kind
        if kind and not goes_on:
            found.add((start, at, kind))
            kind = ""
        if goes_on or tag == OUTSIDE:
            continue
        if prefix in {"B", "I"} and name:
            start, kind = at, name
        else:
            found.add((at, at + 1, tag))
    return found


def _equal(own: Tags, other: Tags) -> Scores:
    counts = [
        (sum(a == b for a, b in zip(one, two, strict=True)), len(one))
        for one, two in zip(own, other, strict=True)
    ]
    return Scores(statistics=np.array(counts, np.float64), combine=_share)


def _span_f1(own: Tags, right: Tags) -> Scores:
    pairs = [(spans(one), spans(two)) for one, two in zip(own, right, strict=True)]
    counts = [(2 * len(one & two), len(one) + len(two)) for one, two in pairs]
    return Scores(statistics=np.array(counts, np.float64), combine=_share)


def _share(sums: Values, _: int) -> Values:
    share: Values = sums[..., 0] / np.maximum(sums[..., 1], 1)
    return share
