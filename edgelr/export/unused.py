"""Drop the rows of an embedding whose tokens no training text has; the tokenizer's ids stay.

An embedding is half of a small encoder's bytes, and an app of one domain meets a third of its tokens. Rows of
tokens that were never seen become one, their mean, in the torch model, so that everything that is compared
with it afterwards holds for every text; the graph then stores each row once (``tables.store_rows_once``).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.embedding import LowRankEmbedding


@torch.no_grad()
def merge_unused(model: nn.Module, table: nn.Module, seen: Iterable[int]) -> int:
    """Give all tokens that are not seen the mean of their rows, in place.

    Args:
        model: The model.
        table: Its embedding, dense or factored.
        seen: Ids of the tokens to keep.

    Returns:
        How many rows became one.

    Raises:
        UnsupportedModelError: The table is no embedding, or something else reads it too.
    """
    rows = _rows(model, table)
    unused = torch.ones(len(rows), dtype=torch.bool)
    unused[list(seen)] = False
    if unused.any():
        rows[unused] = rows[unused].double().mean(dim=0).to(rows)
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
