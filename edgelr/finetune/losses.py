"""The learning-rate schedule and the loss of one step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgelr.recipe.schema import Finetune
from edgelr.tasks.task import Batch, Task


def learning_rate(step: int, settings: Finetune) -> float:
    """Linear warm-up, then half a cosine down to zero.

    Args:
        step: 0 to ``settings.steps - 1``.
        settings: Peak rate, number of steps, share of warm-up.
    """
    warmup = max(1, round(settings.steps * settings.warmup_share))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, settings.steps - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def step_loss(
    task: Task,
    student: nn.Module,
    teacher: nn.Module,
    batch: Batch,
    pairs: tuple[Batch, Batch] | None,
    settings: Finetune,
) -> Tensor:
    """Distillation from the dense model, plus the task's own loss where the recipe gives it weight.

    Args:
        task: What the loss means.
        student: The factored model.
        teacher: The dense model.
        batch: Texts.
        pairs: Queries and their passages, when there is a task loss.
        settings: The weights of the losses.
    """
    hidden = settings.distill.hidden > 0
    with torch.inference_mode():
        target = task.run(teacher, batch, hidden=hidden)
    loss = task.distillation_loss(task.run(student, batch, hidden=hidden), target, batch, settings.distill)
    if pairs is not None:
        queries, passages = (task.run(student, side).result for side in pairs)
        loss = loss + settings.task_loss * task.pair_loss(queries, passages)
    return loss
