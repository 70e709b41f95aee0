"""The torch layer that computes with two factors, and how it takes a dense layer's place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.svd import Factors


class LowRankLinear(nn.Module):
    """``y = up (down x) + bias`` with ``up [out, rank]`` and ``down [rank, in]``.

    Args:
        in_features: Size of ``x``'s last axis.
        out_features: Size of ``y``'s last axis.
        rank: The inner dimension.
        bias: Whether there is a bias.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.rank = rank
        self.down = nn.Parameter(torch.empty(rank, in_features))
        self.up = nn.Parameter(torch.empty(out_features, rank))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def weight(self) -> Tensor:
        """The product ``[out, in]``; some models (T5) read a linear's weight."""
        return self.up @ self.down

    def forward(self, x: Tensor) -> Tensor:
        """Apply both factors.

        Args:
            x: ``[..., in]``.

        Returns:
            ``[..., out]``.
        """
        return nn.functional.linear(nn.functional.linear(x, self.down), self.up, self.bias)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return (
            f"in={self.in_features}, out={self.out_features}, rank={self.rank}, bias={self.bias is not None}"
        )


def low_rank_linear(dense: nn.Linear, factors: Factors) -> LowRankLinear:
    """A layer with these factors and the dense layer's bias, dtype and device."""
    layer = LowRankLinear(
        dense.in_features, dense.out_features, factors.down.shape[0], bias=dense.bias is not None
    ).to(dense.weight)
    with torch.no_grad():
        layer.up.copy_(torch.from_numpy(factors.up))
        layer.down.copy_(torch.from_numpy(factors.down))
        if layer.bias is not None:
            layer.bias.copy_(dense.bias)
    return layer


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` at the dotted path ``name`` of ``model``."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def restructure(model: nn.Module, ranks: dict[str, int]) -> None:
    """Give a dense model the (uninitialised) low-rank layers of a structure, in place.

    Raises:
        UnsupportedModelError: A named site is not a linear of this model.
    """
    for name, rank in ranks.items():
        try:
            dense = model.get_submodule(name)
        except AttributeError:
            dense = None
        if not isinstance(dense, nn.Linear):
            raise UnsupportedModelError(
                f"the structure factors '{name}', which is not a linear layer of this model",
                "the checkpoint belongs to another model",
            )
        layer = LowRankLinear(dense.in_features, dense.out_features, rank, bias=dense.bias is not None)
        replace_module(model, name, layer.to(dense.weight))
