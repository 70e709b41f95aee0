"""Modules that share one weight: once it is factored, they share the factors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import nn

from edgelr.lowrank.embedding import LowRankEmbedding, empty_low_rank_embedding, low_rank_head
from edgelr.lowrank.kinds import copy_bias, empty_like
from edgelr.lowrank.layers import LowRankLinear


def shared_layers(
    model: nn.Module, names: Iterable[str], dense: nn.Module, made: nn.Module
) -> dict[str, nn.Module]:
    """Layers for the other modules of a shared weight: the parameters of the first one's factors, own biases.

    Args:
        model: Holds the other modules, dense.
        names: Of the other modules; the same module may be there under several names.
        dense: The first module.
        made: The low-rank layer in its place, initialised or not.

    Returns:
        Name -> layer.
    """
    known = {id(dense): made}
    layers = {}
    for name in names:
        module = model.get_submodule(name)
        if id(module) not in known:
            known[id(module)] = _sharing(module, made)
        layers[name] = known[id(module)]
    return layers


def _sharing(module: nn.Module, made: nn.Module) -> nn.Module:
    if isinstance(made, LowRankEmbedding):
        if not isinstance(module, nn.Embedding):
            return low_rank_head(cast(nn.Linear, module), made)
        embedding = empty_low_rank_embedding(module, made.rank)
        embedding.table, embedding.up = made.table, made.up
        return embedding
    assert isinstance(made, LowRankLinear)
    layer = cast(LowRankLinear, empty_like(module, made.rank))
    layer.up, layer.down = made.up, made.down
    copy_bias(module, layer)
    return layer
