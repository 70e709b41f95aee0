"""Metrics of causal language models: how well they foretell texts, and go on as the dense model does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelr.metrics.scores import Scores, Values, mean_scores

LENGTH = 16  # tokens that a model goes on with after the first half of a text
NOTHING = -1  # in the place of tokens behind the one that ended a text


@dataclass(frozen=True, kw_only=True, eq=False)
class Readings:
    """What a model makes of some texts.

    Attributes:
        losses: Minus the log-likelihood of each text after its first token, summed, ``[examples]``.
        tokens: Over how many tokens, ``[examples]``.
        continuations: How it goes on greedily after the first half of each, ``[examples, LENGTH]``.
    """

    losses: Values
    tokens: NDArray[np.int64]
    continuations: NDArray[np.int64]


def generation_scores(own: Readings, dense: Readings) -> dict[str, Scores]:
    """Every metric of task ``text-generation``.

    Args:
        own: Of the model.
        dense: Of the dense model, on the same texts.

    Returns:
        Metric name -> its scores. ``perplexity`` is that of a token: it depends on the tokenizer. From 0 to
        1 are ``agreement``, the share of the continuations that are the dense model's, token for token, and
        ``agreed_tokens``, the share of the dense model's tokens before the first that differs.

    Raises:
        ValueError: There is no text, or they are not of the same ones.
    """
    if own.continuations.shape != dense.continuations.shape or not len(own.continuations):
        raise ValueError(
            f"continuations {list(own.continuations.shape)} and {list(dense.continuations.shape)} do not fit"
        )
    equal = own.continuations == dense.continuations
    written = (dense.continuations != NOTHING).sum(axis=1)
    agreed = np.minimum(np.cumprod(equal, axis=1).sum(axis=1), written)
    return {
        "perplexity": Scores(statistics=np.stack([own.losses, own.tokens], axis=1), combine=_perplexity),
        "agreement": mean_scores(equal.all(axis=1).astype(np.float64)),
        "agreed_tokens": Scores(statistics=np.stack([agreed, written], axis=1), combine=_share),
    }


def as_continuations(tokens: list[list[int]]) -> NDArray[np.int64]:
    """Continuations as one array, filled up where they ended.

    Args:
        tokens: Of each text, at most ``LENGTH``.
    """
    found = np.full((len(tokens), LENGTH), NOTHING, np.int64)
    for row, written in zip(found, tokens, strict=True):
        row[: len(written)] = written
    return found


def _perplexity(sums: Values, _: int) -> Values:
    perplexity: Values = np.exp(_share(sums, 0))
    return perplexity


def _share(sums: Values, _: int) -> Values:
    share: Values = sums[..., 0] / np.maximum(sums[..., 1], 1)  # of texts of one token there is nothing
    return share.astype(np.float64)
