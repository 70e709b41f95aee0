"""The kinds of layers that have a matrix to factor: the matrix of each, and what takes its place.

=====================  ==============  ============================  ===================
dense                  its weight      the matrix                    low-rank
=====================  ==============  ============================  ===================
nn.Linear              [out, in]       the weight                    LowRankLinear
Conv1D (GPT-2)         [in, out]       its transpose                 LowRankLinear
nn.Embedding           [tokens, dim]   its transpose                 LowRankEmbedding
nn.Conv1d, nn.Conv2d   [out, in, ...]  [out, in·kh·kw] (channel) or  LowRankConv
                                       [out·kw, in·kh] (spatial)
=====================  ==============  ============================  ===================
"""

from __future__ import annotations

from typing import Any, Literal, assert_never, cast

import torch
from torch import Tensor, nn

from edgelr.lowrank.conv import Conv, empty_low_rank_conv, low_rank_conv, reason_against_conv
from edgelr.lowrank.conv_cost import Form
from edgelr.lowrank.embedding import empty_low_rank_embedding, low_rank_embedding, reason_against_embedding
from edgelr.lowrank.layers import LowRankLinear
from edgelr.lowrank.stored import values_of
from edgelr.lowrank.svd import Factors, Matrix
from edgelr.lowrank.weight import Weight, conv_matrix

Kind = Literal["linear", "transposed-linear", "embedding", "conv"]


def kind_of(module: nn.Module) -> Kind | None:
    """Which kind of layer a module is, whether it can be factored or not; None for all others.

    Args:
        module: Any module.
    """
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.Embedding):
        return "embedding"
    if isinstance(module, Conv):
        return "conv"
    return None if _transposed_linear(module) is None else "transposed-linear"


def reason_against(module: nn.Module, form: Form = "channel") -> str | None:
    """Why a module cannot be factored, or None when it can.

    Args:
        module: Any module.
        form: Of convolutions: ``channel`` or ``spatial``.
    """
    name = type(module).__name__
    match kind_of(module):
        case "linear":
            plain = type(module).forward is nn.Linear.forward
            return None if plain else f"{name} computes more than a linear layer"
        case "transposed-linear":
            plain = type(module).forward is getattr(_transposed_linear(module), "forward", None)
            return None if plain else f"{name} computes more than a linear layer"
        case "embedding":
            return reason_against_embedding(module)
        case "conv":
            return reason_against_conv(module, form)
        case None:
            return f"{name} is no layer with a matrix to factor"
        case other:
            assert_never(other)


def matrix_of(module: nn.Module, form: Form = "channel") -> Tensor:
    """The matrix ``[out, in]`` that a module multiplies its input by, in its own dtype, without gradient.

    Args:
        module: A layer of one of the kinds.
        form: Of convolutions: ``channel`` or ``spatial``.

    Raises:
        ValueError: The module is of no such kind.
    """
    match kind_of(module):
        case "linear":
            return _weight(module)
        case "transposed-linear" | "embedding":
            return _weight(module).T
        case "conv":
            return conv_matrix(_weight(module), form)
        case None:
            raise ValueError(f"{type(module).__name__} is no layer with a matrix to factor")
        case other:
            assert_never(other)


def weight_of(module: nn.Module) -> Weight:
    """A module's weight for arithmetic that knows no torch; no copy where NumPy knows its type.

    Args:
        module: A layer of one of the kinds.

    Raises:
        ValueError: The module is of no such kind.
    """
    if (kind := kind_of(module)) is None:
        raise ValueError(f"{type(module).__name__} is no layer with a matrix to factor")
    stored = values_of(_weight(module)).cpu()
    known = stored.dtype in (torch.float32, torch.float64)
    values = (stored if known else stored.float()).numpy()
    if kind == "transposed-linear":
        return Weight(kind="linear", values=values.T)
    return Weight(kind=kind, values=values)


def matrix(module: nn.Module, form: Form = "channel") -> Matrix:
    """A module's matrix ``[out, in]`` in fp64."""
    return weight_of(module).matrix(form)


def low_rank_like(module: nn.Module, factors: Factors, form: Form = "channel") -> nn.Module:
    """A low-rank layer with these factors and the module's bias, settings, dtype and device.

    Args:
        module: A layer that ``reason_against`` has nothing against.
        factors: Of ``matrix_of(module, form)``.
        form: Of convolutions: ``channel`` or ``spatial``.

    Raises:
        ValueError: The module cannot be factored; why is said.
    """
    if isinstance(module, nn.Embedding):
        return low_rank_embedding(module, factors)
    if isinstance(module, Conv):
        return low_rank_conv(module, factors, form)
    layer = cast(LowRankLinear, empty_like(module, factors.down.shape[0]))
    with torch.no_grad():
        layer.up.copy_(torch.from_numpy(factors.up))
        layer.down.copy_(torch.from_numpy(factors.down))
    copy_bias(module, layer)
    return layer


def copy_bias(module: nn.Module, layer: LowRankLinear) -> None:
    """Give a low-rank layer the bias of the dense one, where there is one."""
    if layer.bias is not None:
        with torch.no_grad():
            layer.bias.copy_(cast(Tensor, module.bias))


def empty_like(module: nn.Module, rank: int, form: Form = "channel") -> nn.Module:
    """The low-rank layer that takes a module's place, uninitialised, for weights to be loaded into.

    Args:
        module: A layer that ``reason_against`` has nothing against.
        rank: The inner dimension.
        form: Of convolutions: ``channel`` or ``spatial``.

    Raises:
        ValueError: The module cannot be factored; why is said.
    """
    if (reason := reason_against(module, form)) is not None:
        raise ValueError(reason)
    if isinstance(module, nn.Embedding):
        return empty_low_rank_embedding(module, rank)
    if isinstance(module, Conv):
        return empty_low_rank_conv(module, rank, form)
    out, in_ = matrix_of(module).shape
    layer = LowRankLinear(in_, out, rank, bias=getattr(module, "bias", None) is not None)
    return layer.to(_weight(module))


def _weight(module: nn.Module) -> Tensor:
    return cast(Tensor, module.weight).detach()


def _transposed_linear(module: nn.Module) -> type[Any] | None:
    """The class of GPT-2's layer that a module is of. By its name: transformers is slow to import."""
    for kind in type(module).__mro__:
        if (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D"):
            return kind
    return None
