"""A table of items in parts, by how often its rows are met: each is factored with a rank of its own.

A catalog is met by Zipf's law: few items make most of what is met, and most items are met hardly ever. One
rank for all rows gives the many what only the few have use for. In parts, which are tables of their own to
all stages, the allocator decides what each may take.

The items that are met most have the first rows, so that no number has to be mapped to another: a part is all
rows from its first on. A part of n rows has one more, of zeros: that is what it looks up for the rows of all
others, and what was looked up is the sum over the parts.

Source:
    Chen et al., GroupReduce (NeurIPS 2018): blocks of a vocabulary by frequency, each of a rank of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgelr.lowrank.embedding import LowRankEmbedding, LowRankHead


class GroupedTable(nn.Module):
    """The look-up: like an ``nn.Embedding``.

    Args:
        sizes: Rows of each part, without that of zeros.
        dim: Numbers of a row.
    """

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.parts = nn.ModuleList(nn.Embedding(size + 1, dim, padding_idx=size) for size in sizes)

    @property
    def weight(self) -> Tensor:
        """The whole table ``[items, dim]``, a copy."""
        return torch.cat([_matrix(part)[:-1] for part in self.parts])

    def forward(self, item: Tensor) -> Tensor:
        """Look up items ``[...]``: ``[..., dim]``."""
        start, rows = 0, []
        for part, size in zip(self.parts, self.sizes, strict=True):
            row = item - start
            rows.append(part(torch.where((row >= 0) & (row < size), row, size)))
            start += size
        return torch.stack(rows).sum(0)


class GroupedCatalog(nn.Module):
    """The product with the whole table: like an ``nn.Linear`` with its weight.

    Args:
        table: Whose parts are multiplied by.
    """

    def __init__(self, table: GroupedTable) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        for part in table.parts:
            rows, dim = _matrix(part).shape
            head = nn.Linear(dim, rows)
            head.weight = part.weight  # type: ignore[assignment] # a parameter of an embedding
            self.parts.append(head)

    @property
    def bias(self) -> Tensor:
        """Popularity of all items ``[items]``, a copy."""
        return torch.cat([_bias(part)[:-1] for part in self.parts])

    def forward(self, vector: Tensor) -> Tensor:
        """Score all items for ``[..., dim]``: ``[..., items]``."""
        return torch.cat([part(vector)[..., :-1] for part in self.parts], dim=-1)


def cut_items(model: nn.Module, sizes: Sequence[int]) -> None:
    """Put parts in place of the items' table and of its product; scores stay what they were.

    Args:
        model: With ``items``, and ``catalog`` of the same weight.
        sizes: Rows of each part, in order; together all.
    """
    weight, bias = _matrix(model.items), _bias(model.catalog)
    table = GroupedTable(sizes, weight.shape[1])
    catalog = GroupedCatalog(table)
    cut = (torch.split(whole, list(sizes)) for whole in (weight, bias))
    pieces = zip(table.parts, catalog.parts, *cut, strict=True)
    with torch.no_grad():
        for part, head, rows, popularity in pieces:
            _matrix(part).copy_(nn.functional.pad(rows, (0, 0, 0, 1)))
            _bias(head).copy_(nn.functional.pad(popularity, (0, 1)))
    model.items, model.catalog = table, catalog


def is_whole(model: nn.Module) -> bool:
    """Whether the items are in parts, none of which is factored."""
    table = getattr(model, "items", None)
    return isinstance(table, GroupedTable) and all(isinstance(part, nn.Embedding) for part in table.parts)


class NarrowUsers(nn.Module):
    """A matrix factorization whose items are in factored parts, as it is exported: without wide vectors.

    ``up_user t_user`` times ``up_part t_item`` is ``(up_partᵀ up_user t_user) · t_item``: a small matrix
    turns a user's stored numbers into those of all parts at once.

    Args:
        users: The users' table, dense or factored.
        heads: The parts of the catalog.
    """

    inputs = ("user",)

    def __init__(self, users: nn.Embedding | LowRankEmbedding, heads: Sequence[LowRankHead]) -> None:
        super().__init__()
        narrow = isinstance(users, LowRankEmbedding)
        stored = users.table if isinstance(users, LowRankEmbedding) else users.weight
        self.users = nn.Embedding(*stored.shape)
        self.ranks = [head.rank for head in heads]
        ups = torch.cat([head.up.T for head in heads])  # [all ranks, dim]
        self.turn = nn.Linear(stored.shape[1], len(ups), bias=False)
        self.parts = nn.ModuleList(nn.Linear(head.rank, head.out_features - 1) for head in heads)
        with torch.no_grad():
            self.users.weight.copy_(stored)
            self.turn.weight.copy_(ups @ users.up if narrow else ups)  # type: ignore[operator]
            for part, head in zip(self.parts, heads, strict=True):
                _matrix(part).copy_(head.table[:-1])
                _bias(part).copy_(_bias(head)[:-1])

    def forward(self, user: Tensor) -> Tensor:
        """Score the catalog for users ``[batch]``: ``[batch, items]``."""
        vectors = torch.split(self.turn(self.users(user)), self.ranks, dim=-1)
        scores = [part(vector) for part, vector in zip(self.parts, vectors, strict=True)]
        return torch.cat(scores, dim=-1)


def _matrix(module: object) -> Tensor:
    weight = module.weight  # type: ignore[attr-defined]
    assert isinstance(weight, Tensor)
    return weight


def _bias(module: object) -> Tensor:
    bias = module.bias  # type: ignore[attr-defined]
    assert isinstance(bias, Tensor)
    return bias
