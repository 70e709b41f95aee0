"""How the weights and the inputs of a layer are rounded by the scheme that a recipe gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, assert_never

from torch import Tensor

from edgelr.finetune.rounding import (
    EIGHT_BITS,
    round_activation,
    round_activation_blocks,
    round_blocks,
    round_pairs,
    round_rows,
    round_table,
    straight_through,
)
from edgelr.recipe.quantize import LayerScheme, Quantize
from edgelr.runtime.block_size import block_of
from edgelr.runtime.layer_names import matches, unwrapped

_BLOCKED = ("weight-int8", "weight-int4")
_LARGE_TABLE, _LARGE_CONSTANT = 2**16, 2**13  # numbers: smaller ones stay fp32, or have a scale a row at most


@dataclass(frozen=True, kw_only=True)
class Schemes:
    """What is rounded, and how.

    Attributes:
        settings: The recipe's section quantize, with a scheme that is no choice by measuring.
        multiplied: Identities of the parameters that a product reads: a table among them is a head too.
    """

    settings: Quantize
    multiplied: frozenset[int]

    def of(self, path: str) -> LayerScheme:
        """The scheme of a layer, or of a factor."""
        name, layers = unwrapped(path), self.settings.layers
        glob = next((glob for glob in layers if matches(glob, name)), None)
        scheme = self.settings.scheme if glob is None else layers[glob]
        assert scheme != "auto", "a fault of the recipe"
        return scheme

    def matrix(self, path: str, weight: Tensor) -> Tensor:
        """What is multiplied by.

        Args:
            path: Of the layer.
            weight: ``[out, in]``.
        """
        scheme, exact = self.of(path), weight.detach()
        match scheme:
            case "int8-dynamic" | "int8-static":
                return round_pairs(exact)
            case "a16w8":
                return round_rows(exact, EIGHT_BITS)
            case "weight-int8":
                return round_blocks(exact, 8, self._block(exact))
            case "weight-int4":
                return round_blocks(exact, 4, self._block(exact))
            case "fp16" | "fp32":
                return exact
            case _:
                assert_never(scheme)

    def table(self, path: str, table: Tensor) -> Tensor:
        """What rows are looked up in, and a head that shares it multiplies by.

        Args:
            path: Of the layer.
            table: ``[tokens, dim]``.
        """
        scheme, tied, exact = self.of(path), id(table) in self.multiplied, table.detach()
        if scheme in ("fp32", "fp16"):
            return exact
        if (self.settings.vocabulary or scheme in _BLOCKED) and (tied or exact.numel() >= _LARGE_TABLE):
            bits: Literal[4, 8] = 4 if self.settings.vocabulary == "int4" else 8
            return round_table(exact, bits, self._block(exact))
        if tied:
            return self.matrix(path, exact)
        return round_rows(exact, EIGHT_BITS) if exact.numel() >= _LARGE_CONSTANT else exact

    def inputs(self, path: str) -> Callable[[Tensor], Tensor]:
        """What rounds the values that a layer multiplies, ``[batch, ..., dim]``."""
        scheme = self.of(path)
        match scheme:
            case "int8-dynamic":
                return _through(lambda values: round_activation(values, 8, each=True))
            case "int8-static":
                return _through(lambda values: round_activation(values, 8, each=False))
            case "a16w8":
                return _through(lambda values: round_activation(values, 16, each=False))
            case "weight-int8" | "weight-int4":
                return _through(lambda values: round_activation_blocks(values, self._block(values)))
            case "fp16" | "fp32":
                return lambda values: values
            case _:
                assert_never(scheme)

    def _block(self, rows: Tensor) -> int:
        return block_of(rows.shape[-1], self.settings.block_size)


def _through(rounding: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda values: straight_through(values, rounding(values.detach()))
