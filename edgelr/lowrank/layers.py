"""The torch layers that take a dense layer's place: two factors, or attention heads with fewer channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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

    def forward(self, input: Tensor) -> Tensor:
        """Apply both factors; the argument is called as in ``nn.Linear``.

        Args:
            input: ``[..., in]``.

        Returns:
            ``[..., out]``.
        """
        return nn.functional.linear(nn.functional.linear(input, self.down), self.up, self.bias)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return (
            f"in={self.in_features}, out={self.out_features}, rank={self.rank}, bias={self.bias is not None}"
        )


class IntoHeads(nn.Module):
    """A query, key or value projection into heads of fewer channels, the missing ones filled with zeros.

    The zeros change no score and no sum, so that any attention code works with it as it is. The exported
    graph has neither them nor the time they take.

    Args:
        in_features: Size of ``x``'s last axis.
        heads: Number of heads.
        head_size: Channels of a head that the attention code expects.
        size: Channels that are computed.
        bias: Whether there is a bias.
    """

    def __init__(self, in_features: int, heads: int, head_size: int, size: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, heads * head_size
        self.heads, self.head_size, self.size = heads, head_size, size
        self.narrow = nn.Linear(in_features, heads * size, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., heads * head_size]``."""
        channels = self.narrow(input)
        split = channels.reshape(*input.shape[:-1], self.heads, self.size)
        return _padded(split, self.head_size).flatten(-2)

    def widened(self, head_size: int | None = None) -> nn.Linear:
        """The same layer as a plain linear with rows of zeros, ``weight [heads * head_size, in]``.

        Args:
            head_size: Channels of a head, ``size`` at least; those that the attention code expects when None.
        """
        head_size = head_size or self.head_size
        wide = nn.Linear(self.in_features, self.heads * head_size, bias=self.narrow.bias is not None)
        wide = wide.to(self.narrow.weight)
        with torch.no_grad():
            rows = self.narrow.weight.T.reshape(self.in_features, self.heads, self.size)
            wide.weight.copy_(_padded(rows, head_size).flatten(-2).T)
            if self.narrow.bias is not None:
                bias = self.narrow.bias.reshape(self.heads, self.size)
                wide.bias.copy_(_padded(bias, head_size).flatten())
        return wide


class OutOfHeads(nn.Module):
    """The output projection of heads whose values have fewer channels than the attention code hands over.

    Args:
        heads: Number of heads.
        head_size: Channels of a head in the input.
        size: Of these, the first ones that are read; the others are zeros.
        out_features: Size of the result's last axis.
        bias: Whether there is a bias.
    """

    def __init__(self, heads: int, head_size: int, size: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = heads * head_size, out_features
        self.heads, self.head_size, self.size = heads, head_size, size
        self.narrow = nn.Linear(heads * size, out_features, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """``[..., heads * head_size]`` to ``[..., out]``."""
        channels = input.reshape(*input.shape[:-1], self.heads, self.head_size)[..., : self.size]
        narrow: Tensor = self.narrow(channels.flatten(-2))
        return narrow

    def widened(self, head_size: int | None = None) -> nn.Linear:
        """The same layer as a plain linear with columns of zeros, ``weight [out, heads * head_size]``.

        Args:
            head_size: As of ``IntoHeads.widened``.
        """
        head_size = head_size or self.head_size
        wide = nn.Linear(self.heads * head_size, self.out_features, bias=self.narrow.bias is not None)
        wide = wide.to(self.narrow.weight)
        with torch.no_grad():
            columns = self.narrow.weight.reshape(self.out_features, self.heads, self.size)
            wide.weight.copy_(_padded(columns, head_size).flatten(1))
            if self.narrow.bias is not None:
                wide.bias.copy_(self.narrow.bias)
        return wide


def _padded(channels: Tensor, head_size: int) -> Tensor:
    """``[..., heads, size]`` to ``[..., heads, head_size]``."""
    return nn.functional.pad(channels, [0, head_size - channels.shape[-1]])


def replace_module(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put ``module`` at the dotted path ``name`` of ``model``; returns what was there."""
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    before: nn.Module = getattr(owner, leaf)
    setattr(owner, leaf, module.train(before.training))
    return before
