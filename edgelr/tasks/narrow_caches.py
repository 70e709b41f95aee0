"""Decoders whose attention heads were made smaller, in the form that is traced.

Small heads are filled up with zeros, so that any attention code works with them as it is, and an exported
encoder loses the zeros again (``export/heads.py``). A decoder's keys and values cross the borders of its
graph: from the encoder, and from step to step. Here its attention itself is made as small as its layers, and
all that is kept of a token with it. Keys and values of a layer are of one size, that of the larger.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from edgelr.lowrank.layers import IntoHeads, OutOfHeads

_PARTS = ("q_proj", "k_proj", "v_proj", "out_proj")
_MULTIPLE = 8  # of the operator that writes into its cache


def with_narrow_caches(model: nn.Module) -> nn.Module:
    """The same model with small heads throughout its decoder; itself where there are none.

    Args:
        model: An encoder-decoder of transformers, of BART's kin where heads are small; not changed. What is
            returned has its parameters.
    """
    if not any(map(_is_narrow, _decoder(model).modules())):
        return model
    narrow = copy.deepcopy(model, {id(each): each for each in model.parameters()})
    for module in _decoder(narrow).modules():
        if any(_is_narrow(getattr(module, part, None)) for part in _PARTS):
            _shrink(module)
    return narrow


def _shrink(attention: Any) -> None:  # noqa: ANN401 - transformers is not typed
    layers = {part: getattr(attention, part) for part in _PARTS}
    full = attention.head_dim
    needed = max(layer.size if _is_narrow(layer) else full for layer in layers.values())
    size = min(full, -(-needed // _MULTIPLE) * _MULTIPLE)
    for part, layer in layers.items():
        if _is_narrow(layer):
            setattr(attention, part, layer.widened(size).train(layer.training))
    attention.head_dim = size  # ``scaling`` stays what the model was trained with


def _decoder(model: nn.Module) -> nn.Module:
    return model.get_decoder()  # type: ignore[no-any-return,operator]


def _is_narrow(module: object) -> bool:
    return isinstance(module, IntoHeads | OutOfHeads)
