"""What is traced: the task's module, with the parts of its model that trace badly put in plain form."""

from __future__ import annotations

import copy
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from edgelr.lowrank.layers import LowRankLinear

_MASKED = -1.0e9  # added to the scores of padding; finite, so that a fully masked row is no NaN


class TextEncoder(Protocol):
    """What a text model has: a Hugging Face encoder, and what turns its token vectors into the output."""

    transformer: nn.Module

    def pool(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Token vectors ``[batch, tokens, dim]`` under ``[batch, tokens]`` to the output."""
        ...


class TextGraph(nn.Module):
    """A text encoder as it is exported: token ids and mask in, the task's output out.

    The additive mask is made here: a four-dimensional mask is taken as it is by the attention layers of
    transformers, whose own mask code traces to dozens of nodes that some providers lack.

    Args:
        model: A ``TextEncoder``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = cast(TextEncoder, traceable(model))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed ``input_ids [batch, tokens]`` under ``attention_mask [batch, tokens]``."""
        bias = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * _MASKED
        states = self.model.transformer(input_ids=input_ids, attention_mask=bias).last_hidden_state
        return self.model.pool(states, attention_mask)


def traceable(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with plain attention: tracing changes some models' configuration."""
    plain = copy.deepcopy(model).eval()
    for module in plain.modules():
        if callable(choose := getattr(module, "set_attn_implementation", None)):
            choose("eager")
    return plain


def matrix_count(model: nn.Module) -> int:
    """How many constant matrices the exported graph must multiply by: one a linear, two a low-rank layer."""
    return sum(
        2 if isinstance(module, LowRankLinear) else int(isinstance(module, nn.Linear))
        for module in model.modules()
    )
