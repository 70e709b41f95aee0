"""Which texts each step sees: a pure function of the seed and the step, so that a resumed run sees the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_POOL = 16  # batches that are sorted by length together: little padding, still a random order


def epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one pass over the data, as indices.

    Texts are shuffled, sorted by length within pools of a few batches, and the batches shuffled again. The last
    incomplete batch is left out, unless it is the only one.

    Args:
        lengths: Number of tokens of each text.
        size: Texts a batch.
        seed: The recipe's seed.
        epoch: Passes before this one.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pool = size * _POOL
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool].tolist(), key=lambda index: lengths[index])
        batches.extend(chunk[at : at + size] for at in range(0, len(chunk), size))
    whole = [batch for batch in batches if len(batch) == size] or batches
    return [whole[index] for index in random.permutation(len(whole))]


def batch_of_step(lengths: Sequence[int], size: int, seed: int, step: int) -> list[int]:
    """The batch of one step, counted over all epochs."""
    per_epoch = len(epoch_batches(lengths, size, seed, 0))
    epoch, at = divmod(step, per_epoch)
    return epoch_batches(lengths, size, seed, epoch)[at]
