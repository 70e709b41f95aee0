"""Metrics of a torch model against the dense one, as ``validate`` measures them of packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgelr.examples import Example
from edgelr.metrics.retrieval import sentence_embedding_scores
from edgelr.tasks.task import Task

Score = Callable[[nn.Module], dict[str, float]]
"""Model -> every metric of its task, over all examples."""


def scorer(
    task: Task, dense: nn.Module, tokenizer_json: str, examples: Sequence[Example], max_tokens: int
) -> Score:
    """Make the function that scores models on examples; the dense model is run once, here.

    Args:
        task: What the models compute.
        dense: What they are compared with.
        tokenizer_json: The tokenizer as one document.
        examples: Pairs to score on.
        max_tokens: Longer texts are cut.
    """
    sides = ([example.query or "" for example in examples], [example.passage for example in examples])

    def embed(model: nn.Module) -> list[NDArray[np.float32]]:
        return [task.embed(model, tokenizer_json, side, max_tokens) for side in sides]

    references = embed(dense)

    def score(model: nn.Module) -> dict[str, float]:
        own = references if model is dense else embed(model)
        found = sentence_embedding_scores(*own, *references)
        return {metric: scores.value for metric, scores in found.items()}

    return score
