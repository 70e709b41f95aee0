"""The learning rate over the steps."""

from __future__ import annotations

import math

from edgelr.recipe.finetune import Finetune


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
