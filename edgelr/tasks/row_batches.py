"""Batches of rows that may have several shapes: only rows of the same shapes can be one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from edgelr.tasks.order import batch_of_step, epoch_batches


def same_shapes(rows: Sequence[Mapping[str, Tensor]]) -> list[list[int]]:
    """Indices of rows whose tensors have the same shapes, in the order these first come.

    Args:
        rows: Name -> tensor.
    """
    groups: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = {}
    for index, row in enumerate(rows):
        shapes = tuple(sorted((name, tuple(tensor.shape)) for name, tensor in row.items()))
        groups.setdefault(shapes, []).append(index)
    return list(groups.values())


@dataclass(frozen=True, kw_only=True)
class RowBatches:
    """Which rows each step sees: a function of seed and step alone.

    Attributes:
        groups: Indices of rows of the same shapes.
        size: Rows a batch.
        seed: The recipe's.
    """

    groups: tuple[tuple[int, ...], ...]
    size: int
    seed: int

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Tensor]], size: int, seed: int) -> RowBatches:
        """Of rows that are known.

        Args:
            rows: Name -> tensor.
            size: Rows a batch.
            seed: The recipe's.
        """
        return cls(groups=tuple(map(tuple, same_shapes(rows))), size=size, seed=seed)

    def batch(self, step: int) -> tuple[int, ...]:
        """The batch of a step, counted over all epochs, as indices of rows of the same shapes.

        Every epoch has the whole batches of every group, in another order.

        Args:
            step: 0 is the first.
        """
        counts = [len(epoch_batches(self._alike(group), self.size, self.seed, 0)) for group in self.groups]
        epoch, at = divmod(step, sum(counts))
        turns = np.repeat(np.arange(len(counts)), counts)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(turns))
        number = int(turns[order[at]])
        before = int((turns[order[:at]] == number).sum())
        group = self.groups[number]
        chosen = batch_of_step(self._alike(group), self.size, self.seed, epoch * counts[number] + before)
        return tuple(group[index] for index in chosen)

    @staticmethod
    def _alike(group: tuple[int, ...]) -> tuple[int, ...]:
        return (1,) * len(group)
