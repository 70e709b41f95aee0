"""What the tasks whose models write texts have in common: scores, and the texts of the dense model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from edgelr.metrics.scores import Scores
from edgelr.progress import Progress
from edgelr.tasks.sequence_losses import TARGETS
from edgelr.tasks.task import Arrays, Batch, Outputs, Score
from edgelr.tasks.translation_model import distance


def nearness(
    dense: nn.Module, run: Callable[..., Outputs], batches: Sequence[Batch]
) -> Callable[[nn.Module], float]:
    """A score of models: minus their mean divergence from the dense one, a token.

    Args:
        dense: The dense model; it is run here.
        run: (model, batch) -> what the model gives.
        batches: On its device.
    """
    with torch.inference_mode():
        references = [run(dense, batch).result for batch in batches]
    tokens = sum(int(batch[TARGETS].sum()) for batch in batches)

    @torch.inference_mode()
    def score(model: nn.Module) -> float:
        device = next(model.parameters()).device
        lost = 0.0
        for batch, reference in zip(batches, references, strict=True):
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            lost += float(distance(run(model, moved).result, reference.to(device)).double().sum())
        return -lost / tokens

    return score


def scored(
    dense: nn.Module,
    outputs: Callable[[nn.Module], list[str]],
    references: Sequence[str],
    scores: Callable[[Sequence[str], Sequence[str], Sequence[str]], Mapping[str, Scores]],
) -> Score:
    """Every metric of the texts that models write.

    Args:
        dense: The dense model; it is run here.
        outputs: What a model writes.
        references: What is right.
        scores: (own texts, references, the dense model's texts) -> metrics.
    """
    dense_outputs = outputs(dense)

    def score(model: nn.Module) -> dict[str, float]:
        own = dense_outputs if model is dense else outputs(model)
        return {name: found.value for name, found in scores(own, references, dense_outputs).items()}

    return score


def texts_of(
    examples: Sequence[Any],
    generated: Callable[[Sequence[Any]], list[str]],
    size: int,
    label: str | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """What a model writes of examples, a few at once.

    Args:
        examples: In the order of the result.
        generated: What it writes of a few.
        size: How many these are.
        label: What is shown beside the progress.
        progress: Where to show how far it is.
    """
    found: list[str] = []
    shown = progress or Progress(quiet=True)
    with shown.bar(label or "", len(examples)) as advance:
        for start in range(0, len(examples), size):
            part = examples[start : start + size]
            found += generated(part)
            advance(len(part))
    return found


def as_lines(texts: Sequence[str]) -> Arrays:
    """Texts as ``reference.npz`` holds them: a line each, single spaces between words."""
    lines = [" ".join(text.split()) for text in texts]
    return {"dense_outputs": np.frombuffer("\n".join(lines).encode(), np.uint8)}
