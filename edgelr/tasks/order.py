"""Which texts each step sees: a function of seed and step alone, so that a resumed run sees the same."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_POOL = 16  # batches that are sorted by length together: little padding, still a random order


def batch_of_step(lengths: tuple[int, ...], size: int, seed: int, step: int) -> tuple[int, ...]:
    """The batch of one step, counted over all epochs, as indices.

    Args:
        lengths: Size of each text, in any unit.
        size: Texts a batch.
        seed: The recipe's seed.
        step: 0 is the first.
    """
    epoch, at = divmod(step, len(epoch_batches(lengths, size, seed, 0)))
    return epoch_batches(lengths, size, seed, epoch)[at]


@lru_cache(maxsize=4)  # the first epoch and the current one, of texts and of pairs
def epoch_batches(lengths: tuple[int, ...], size: int, seed: int, epoch: int) -> tuple[tuple[int, ...], ...]:
    """The batches of one pass over the data, as indices; every epoch has as many.

    Texts are shuffled, sorted by length within pools of a few batches, and the batches shuffled again. The
    last incomplete batch is left out, unless it is the only one.

    Args:
        lengths: Size of each text, in any unit.
        size: Texts a batch.
        seed: The recipe's seed.
        epoch: Passes before this one.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pool = size * _POOL
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool].tolist(), key=lambda index: lengths[index])
        batches.extend(tuple(chunk[at : at + size]) for at in range(0, len(chunk), size))
    whole = [batch for batch in batches if len(batch) == size] or batches
    return tuple(whole[index] for index in random.permutation(len(whole)))
