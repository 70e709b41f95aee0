"""What is traced: the task's module, with the parts of its model that trace badly put in plain form."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from edgelr.lowrank.embedding import LowRankEmbedding, LowRankHead
from edgelr.lowrank.kinds import kind_of
from edgelr.lowrank.layers import IntoHeads, LowRankLinear, OutOfHeads, replace_module
from edgelr.tasks.log_mel import LogMel

_MASKED = -1.0e9  # added to the scores of padding; finite, so that a fully masked row is no NaN


@runtime_checkable
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


def traced_form(module: nn.Module) -> nn.Module:
    """What is traced for a module: a ``TextGraph`` for a text encoder, else a copy with plain attention."""
    return TextGraph(module) if isinstance(module, TextEncoder) else traceable(module)


def traceable(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with plain attention: tracing changes some models' configuration.

    It has the same parameters: tracing changes none of them, and a large model is not there twice.
    """
    plain = copy.deepcopy(model, {id(each): each for each in model.parameters()}).eval()
    for name, module in list(plain.named_modules()):
        if callable(choose := getattr(module, "set_attn_implementation", None)):
            choose("eager")
        if isinstance(module, IntoHeads | OutOfHeads):
            replace_module(plain, name, module.widened())  # export/heads.py cuts the zeros out of the graph
        if kind_of(module) == "transposed-linear":
            replace_module(plain, name, _turned(module))
    return plain


def _turned(module: nn.Module) -> nn.Linear:
    """GPT-2's layer as a plain linear, which is no Gemm between two changes of shape."""
    weight, bias = cast(nn.Parameter, module.weight), cast(nn.Parameter, module.bias)
    layer = nn.Linear(*weight.shape).to(weight)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        layer.bias.copy_(bias)
    return layer


def matrix_count(model: nn.Module, idle: Iterable[nn.Module] = ()) -> int:
    """How many constant matrices the exported graph must multiply by, or convolve with.

    One a dense layer, two a low-rank one. A factor that several layers share is one of them, unless one reads
    it as it is and another its transpose, as a head and the embedding that it is tied to.

    Args:
        model: What is exported.
        idle: Parts of it that the graph does not run.
    """
    matrices: set[tuple[int, bool]] = set()
    resting = {id(module) for part in idle for module in part.modules()}
    for module in model.modules():
        if id(module) not in resting:
            matrices |= {(id(matrix), transposed) for matrix, transposed in _matrices(module)}
    return len(matrices)


def _matrices(module: nn.Module) -> list[tuple[object, bool]]:  # noqa: PLR0911 - one a kind of layer
    """Parameters that a module multiplies by, and whether by their transpose."""
    match module:
        case nn.Linear() | nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return [(module.weight, True)]
        case LowRankLinear():
            return [(module.down, True), (module.up, True)]
        case LogMel():
            return [(module.kernels, True), (module.filters, False)]
        case LowRankEmbedding():
            return [(module.up, True)]
        case LowRankHead():
            return [(module.up, False), (module.table, True)]
        case _ if kind_of(module) == "transposed-linear":
            return [(module.weight, False)]
        case _:
            return []
