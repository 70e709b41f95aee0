"""What a site costs, dense or factored, in the currency of a budget."""

from __future__ import annotations

from typing import assert_never

from edgelr.artifacts import Site
from edgelr.recipe.schema import Budget

_BYTES = {"fp32": 4, "int8-dynamic": 1}
_SCALE_BYTES = 5  # an fp32 scale and an int8 zero point for each output channel of an int8 weight


def parameters(site: Site, rank: int | None) -> int:
    """Numbers stored: ``out·in`` dense, ``rank·(out + in)`` factored (biases do not change)."""
    return site.out * site.in_ if rank is None else rank * (site.out + site.in_)


def macs(site: Site, rank: int | None) -> int:
    """Multiply-accumulates per token."""
    return parameters(site, rank) * site.calls


def weight_bytes(site: Site, rank: int | None, precision: str) -> int:
    """Bytes stored at a precision, with the per-channel scales of int8."""
    stored = parameters(site, rank) * _BYTES[precision]
    if precision == "fp32":
        return stored
    channels = site.out if rank is None else site.out + rank
    return stored + channels * _SCALE_BYTES


def cost(site: Site, rank: int | None, budget: Budget, precision: str) -> int:
    """What ``site`` costs at ``rank`` (None: dense) in the units of ``budget``."""
    match budget:
        case "parameters":
            return parameters(site, rank)
        case "macs":
            return macs(site, rank)
        case "bytes":
            return weight_bytes(site, rank, precision)
        case _:
            assert_never(budget)


def useful_ranks(site: Site, multiple: int) -> range:
    """Ranks worth a factored layer: multiples that store less than the dense matrix."""
    break_even = site.out * site.in_ / (site.out + site.in_)
    return range(multiple, int(-(-break_even // 1)), multiple)
