"""Scores of labels, whatever they are of: how far apart two models' are, and what is tuned on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.recipe.finetune import Finetune
from edgelr.tasks.task import Outputs


def check_one_label(model: nn.Module, folder: Path) -> None:
    """Make sure that a Hugging Face classifier chooses one of several labels.

    Args:
        model: With its configuration.
        folder: What an error names.

    Raises:
        UnsupportedModelError: It gives a number, or any number of labels.
    """
    config: Any = model.config
    if config.num_labels < 2 or config.problem_type not in (None, "single_label_classification"):
        raise UnsupportedModelError(
            f"{folder} gives {config.num_labels} scores, of {config.problem_type or 'regression'}",
            "only models that choose one of several labels can be built yet",
        )


def labels_of(model: nn.Module) -> list[str]:
    """Names of the labels of a Hugging Face classifier, in the order of its scores."""
    config: Any = model.config
    return [str(config.id2label[number]) for number in range(config.num_labels)]


def distance(result: Tensor, reference: Tensor) -> Tensor:
    """Divergence of the labels' distribution from the reference's, ``[batch]``."""
    own, theirs = result.log_softmax(-1), reference.log_softmax(-1)
    return (theirs.exp() * (theirs - own)).sum(-1)


def probe(result: Tensor) -> Tensor:
    """The log-probability of labels drawn from the result: its squared gradients average to the curvature."""
    log_shares = result.log_softmax(-1)
    drawn = torch.multinomial(log_shares.detach().exp(), 1)
    return log_shares.gather(1, drawn).sum()


def label_loss(
    own: Outputs, theirs: Outputs, target: Tensor, settings: Finetune, mask: Tensor | None = None
) -> Tensor:
    """Divergence from the dense model, error of the hidden states, and cross entropy of the right labels.

    Args:
        own: Scores ``[batch, labels]``, with hidden states where these have weight.
        theirs: Likewise, of the dense model.
        target: The right labels, ``[batch]``.
        settings: The weights of the losses.
        mask: ``[batch, tokens]``, of the hidden states; all count without one.

    Source:
        Hinton et al., Distilling the Knowledge in a Neural Network (2015), section 2, for the temperature.
    """
    weights = settings.distill
    heat = weights.temperature
    total = weights.logits * heat**2 * distance(own.result / heat, theirs.result / heat).mean()
    if weights.hidden and own.hidden:
        errors = [_relative_error(*pair, mask) for pair in zip(own.hidden, theirs.hidden, strict=True)]
        total = total + weights.hidden * torch.stack(errors).mean()
    if settings.task_loss:
        smoothing = settings.label_smoothing
        crossed = nn.functional.cross_entropy(own.result, target, label_smoothing=smoothing)
        total = total + settings.task_loss * crossed
    return total


def _relative_error(mine: Tensor, theirs: Tensor, mask: Tensor | None) -> Tensor:
    counted = 1.0 if mask is None else mask.unsqueeze(-1).to(mine.dtype)
    return ((mine - theirs) * counted).square().sum() / (theirs * counted).square().sum()


def nearness(
    dense: nn.Module, scores: Callable[[nn.Module], NDArray[np.float32]]
) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model: smooth, where accuracy is not.

    Args:
        dense: Run once, here.
        scores: Model -> scores of the same examples, ``[examples, labels]``.
    """
    references = torch.from_numpy(scores(dense))
    return lambda model: -float(distance(torch.from_numpy(scores(model)), references).mean())
