"""What a reduction costs: the matrices it leaves, in the currency of a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, assert_never

from edgelr.lowrank.conv_cost import matrix_shape
from edgelr.recipe.schema import Budget
from edgelr.structure import Reduction, Site

_BLOCK = 32  # weights that share a scale in the schemes that have blocks, unless a recipe says otherwise
_BLOCK_BYTES = 4.5  # an fp32 scale and a 4-bit zero point
_SCALE_BYTES = 5  # an fp32 scale and an int8 zero point for each output channel of an int8 weight


class Stored(NamedTuple):
    """One matrix as it is stored.

    Attributes:
        rows: Of ``[out, in]``.
        columns: Likewise.
        calls: How often it is multiplied per token; 0 for a table that is only looked up.
        scales: How many of its rows or columns have a scale of their own at int8; 0 for what stays fp32, as
            convolutions do.
    """

    rows: int
    columns: int
    calls: int
    scales: int


def dense_shapes(sites: Sequence[Site]) -> list[Stored]:
    """The matrices of sites that nothing is done to."""
    return [_stored(site, site.out, site.in_) for site in sites]


def shapes(reduction: Reduction, sites: Mapping[str, Site], *, pivoted: bool) -> list[Stored]:
    """The matrices that a reduction stores in place of those of its sites.

    Args:
        reduction: What is done.
        sites: By name.
        pivoted: Whether the export pivots what it can: ``rank`` rows or columns of a factor are the identity
            then, which is not stored.
    """
    members = [sites[name] for name in reduction.sites]
    first, rank, channels = members[0], reduction.rank, reduction.rank * reduction.heads
    match reduction.form:
        case "low-rank" if first.kind in ("embedding", "tied-embedding"):
            return _table(first, rank)
        case "low-rank" | "joint":
            rows = sum(site.out for site in members)
            saved = rank if pivoted and first.pivotable and reduction.form == "low-rank" else 0
            return [_stored(first, rank, first.in_), _stored(first, rows - saved, rank)]
        case "spatial":
            return _spatial(first, rank)
        case "query-key":
            return [_stored(site, channels, site.in_) for site in members]
        case "value-output":
            value, output = members
            return [_stored(value, channels, value.in_), _stored(output, output.out, channels)]
        case _:
            assert_never(reduction.form)


def _stored(site: Site, rows: int, columns: int) -> Stored:
    match site.kind:
        case "linear" | "transposed-linear":
            return Stored(rows, columns, site.calls, rows)
        case "conv":
            return Stored(rows, columns, site.calls, 0)
        case "embedding":
            return Stored(rows, columns, 0, columns)
        case "tied-embedding":
            return Stored(rows, columns, site.calls, columns)
        case _:
            assert_never(site.kind)


def _table(site: Site, rank: int) -> list[Stored]:
    """A narrow table and what widens its rows; a head is multiplied with both, once more."""
    uses = 2 if site.kind == "tied-embedding" else 1
    return [_stored(site, rank, site.in_), Stored(site.out, rank, uses * site.calls, site.out)]


def _spatial(site: Site, rank: int) -> list[Stored]:
    """A convolution along the height, at ``stride`` times as many positions, then one along the width."""
    channels = site.in_ // (site.kernel[0] * site.kernel[1])
    rows, columns = matrix_shape(site.out, channels, site.kernel, "spatial")
    return [Stored(rank, columns, site.calls * site.stride[1], 0), Stored(rows, rank, site.calls, 0)]


def parameters(matrices: Sequence[Stored]) -> int:
    """Numbers stored (biases do not change)."""
    return sum(matrix.rows * matrix.columns for matrix in matrices)


def macs(matrices: Sequence[Stored]) -> int:
    """Multiply-accumulates for what ``Site.calls`` counts by."""
    return sum(matrix.rows * matrix.columns * matrix.calls for matrix in matrices)


def weight_bytes(matrices: Sequence[Stored], precision: str) -> int:
    """Bytes stored at a precision, with its scales."""
    return sum(_bytes(matrix, precision) for matrix in matrices)


def _bytes(matrix: Stored, precision: str) -> int:
    size = matrix.rows * matrix.columns
    if not matrix.scales:
        return 4 * size
    match precision:
        case "fp32":
            return 4 * size
        case "weight-int8":
            return size + math.ceil(size / _BLOCK * _SCALE_BYTES)
        case "weight-int4":
            return math.ceil(size / 2 + size / _BLOCK * _BLOCK_BYTES)
        case _:
            return size + matrix.scales * _SCALE_BYTES


def cost(matrices: Sequence[Stored], budget: Budget, precision: str) -> int:
    """What matrices cost in the units of ``budget``; macs are multiply-accumulates per token."""
    match budget:
        case "parameters":
            return parameters(matrices)
        case "macs":
            return macs(matrices)
        case "bytes":
            return weight_bytes(matrices, precision)
        case _:
            assert_never(budget)
