"""Drop the rows of an embedding whose tokens no training text has; the tokenizer's ids stay.

An embedding is half of a small encoder's bytes, and an app of one domain meets few of its tokens. A token
that was never seen gets the row of the kept token that is most like it, so that a rare word means what its
nearest neighbour means. That is done in the torch model: everything that is compared with it afterwards holds
for every text. The graph then stores each row once (``tables.store_rows_once``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.embedding import LowRankEmbedding

_BLOCK = 2048  # rows that are compared with all kept ones at once


@torch.no_grad()
def merge_unused(model: nn.Module, table: nn.Module, seen: Iterable[int]) -> int:
    """Give every token that is not seen the row of the most similar one that is, in place.

    Args:
        model: The model.
        table: Its embedding, dense or factored.
        seen: Ids of the tokens to keep, at least one.

    Returns:
        How many tokens lost their row.

    Raises:
        UnsupportedModelError: The table is no embedding, or something else reads it too.
    """
    rows = _rows(model, table)
    kept = torch.tensor(sorted(seen))
    unused = torch.ones(len(rows), dtype=torch.bool)
    unused[kept] = False
    # Of the vectors that come out: rows of a factored table are coordinates in a skewed basis.
    vectors = nn.functional.normalize(cast(Tensor, table.weight).float(), dim=1)
    nearest = [(block @ vectors[kept].T).argmax(dim=1) for block in torch.split(vectors[unused], _BLOCK)]
    rows[unused] = rows[kept[torch.cat(nearest)]]
    return int(unused.sum())


def _rows(model: nn.Module, table: nn.Module) -> Tensor:
    """The rows that are looked up, ``[tokens, dim]`` or ``[tokens, rank]``."""
    if isinstance(table, LowRankEmbedding):
        rows: Tensor = table.table
    elif isinstance(table, nn.Embedding):
        rows = table.weight
    else:
        raise _cannot(f"the tokens' table is {type(table).__name__}, which is not an embedding")
    for name, module in model.named_modules():
        if module is not table and any(own is rows for own in module.parameters(recurse=False)):
            raise _cannot(f"'{name}' reads the tokens' table too, and would score merged tokens alike")
    return rows.data


def _cannot(what: str) -> UnsupportedModelError:
    return UnsupportedModelError(what, "leave export.drop_unused_tokens out")
