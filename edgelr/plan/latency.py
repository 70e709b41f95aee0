"""From a speedup that is asked for to the time that the sites' kernels may take. Arithmetic only.

A model's time is that of its sites' kernels and of everything else (norms, activations, the table of words),
which no reduction changes: the sites alone have to make the whole faster by what is asked. Attention is part
of that rest too; what narrower heads take off it is taken off the price of the layers around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from edgelr.errors import UsageError
from edgelr.plan.kernels import KernelTimes, kernel_grid
from edgelr.plan.options import Price, head_sizes
from edgelr.structure import Group, Reduction, Site
from edgelr.timing.kernel_graph import Attention, Kernel, Timed

_ROUNDING = 1e-9

TIMED = ("linear", "transposed-linear")  # kinds of sites that a kernel table has


@dataclass(frozen=True, kw_only=True)
class LatencyBudget:
    """What the sites may cost.

    Attributes:
        sites_ms: Largest sum of the chosen kernels' times, in the times of the kernel table.
        rest_ms: What the rest of the model takes.
        scale: Milliseconds of the model for each of the kernel table; below 1 only where the dense kernels
            together were measured as slower than the model that holds them.
    """

    sites_ms: float
    rest_ms: float
    scale: float

    def predicted_ms(self, sites_ms: float) -> float:
        """Time of the whole model whose sites' kernels sum to ``sites_ms``."""
        return self.rest_ms + self.scale * sites_ms


def latency_budget(
    *, device: str, model_ms: float, dense_ms: float, fastest_ms: float, speedup: float
) -> LatencyBudget:
    """Milliseconds that the sites' kernels may take for the whole model to be ``speedup`` times as fast.

    ``model_ms / speedup = rest_ms + scale · sites_ms`` with ``rest_ms = model_ms - scale · dense_ms``.
    Normally ``scale`` is 1. Where the kernels sum to more than the model (alone they miss what ONNX Runtime
    shares or fuses between layers), they say nothing about the rest: it is taken as 0, and every kernel is
    scaled by ``model_ms / dense_ms``, so that they sum to the model. The prediction is then too hopeful by
    what the rest really takes.

    Args:
        device: What errors name.
        model_ms: The whole dense model, measured in the same rounds as the kernels.
        dense_ms: Sum over all sites of their dense kernels.
        fastest_ms: Sum over all sites of their fastest option.
        speedup: What is asked for, over the dense model at the same precision.

    Raises:
        UsageError: The speedup is out of reach; the largest possible one is told.
    """
    scale = min(1.0, model_ms / dense_ms) if dense_ms > 0 else 1.0
    rest_ms = model_ms - scale * dense_ms
    sites_ms = (model_ms / speedup - rest_ms) / scale
    if sites_ms < fastest_ms * (1 - _ROUNDING):
        least_ms = rest_ms + scale * fastest_ms
        # Rounded down: asking for what the message says must work.
        possible = math.floor(model_ms / least_ms * 100) / 100
        raise UsageError(
            f"compress.keep.latency: a speedup of {speedup:g} is out of reach on {device}: the dense model "
            f"takes {model_ms:.3g} ms, with the smallest ranks it would take {least_ms:.3g} ms, "
            f"{rest_ms:.3g} ms of them outside the layers that can be factored; "
            f"the largest possible speedup here is {possible:.2f}",
            "ask for less, lower compress.rank_multiple, or exclude fewer layers",
        )
    return LatencyBudget(sites_ms=max(sites_ms, fastest_ms), rest_ms=rest_ms, scale=scale)


def kernels_to_time(sites: Mapping[str, Site], groups: Sequence[Group], multiple: int) -> list[Timed]:
    """Everything that ``latency_price`` may need, each once.

    Args:
        sites: By name.
        groups: Reductions that may be chosen.
        multiple: Ranks are multiples of this.
    """
    shapes: set[tuple[int, tuple[int, ...]]] = {
        (site.in_, (site.out,)) for site in sites.values() if site.kind in TIMED
    }
    found: list[Timed] = []
    for group in groups:
        members = [sites[name] for name in group.sites]
        if group.form == "spatial":
            continue
        if group.form == "joint":
            shapes.add((members[0].in_, tuple(site.out for site in members)))
            continue
        full = group.head_size
        found.append(Attention(group.heads, full, full))
        for size in head_sizes(full):
            reduction = Reduction(form=group.form, sites=group.sites, rank=size, heads=group.heads)
            found += [*_narrow(reduction, members), _attention(reduction, full)]
    grids = [kernel for shape in sorted(shapes) for kernel in kernel_grid(*shape, multiple)]
    return list(dict.fromkeys([*grids, *found]))


def latency_price(sites: Mapping[str, Site], groups: Sequence[Group], times: KernelTimes) -> Price:
    """Milliseconds of sites and what is done to them, in the times of the kernel table.

    A rank that was not timed, as it saves no parameters, costs infinitely much, and so does what is done to a
    convolution or a table: these are not timed, and stay dense. Narrow heads can cost less
    than nothing: of long texts, attention gains more by them than the layers around it take.

    Args:
        sites: By name.
        groups: Those that reductions are of.
        times: Of what ``kernels_to_time`` lists.
    """
    head_size_of = {(group.form, group.sites): group.head_size for group in groups}

    def price(members: Sequence[Site], reduction: Reduction | None) -> float:
        calls = members[0].calls
        if reduction is None:
            timed = [site for site in members if site.kind in TIMED]
            return sum(times.ms(site.in_, (site.out,), None, calls=site.calls) for site in timed)
        if reduction.form == "spatial" or any(site.kind not in TIMED for site in members):
            return math.inf
        match reduction.form:
            case "low-rank" | "joint":
                outs = tuple(site.out for site in members)
                if not times.covers(members[0].in_, outs, reduction.rank):
                    return math.inf
                return times.ms(members[0].in_, outs, reduction.rank, calls=calls)
            case "query-key" | "value-output":
                full = head_size_of[reduction.form, reduction.sites]
                layers = sum(times.ms(each.in_, each.outs, None) for each in _narrow(reduction, members))
                saved = times.attention_ms(Attention(reduction.heads, full, full)) - times.attention_ms(
                    _attention(reduction, full)
                )
                return (layers - max(0.0, saved)) * calls
            case _:
                assert_never(reduction.form)

    return price


def _narrow(reduction: Reduction, members: Sequence[Site]) -> list[Kernel]:
    """The two layers around attention heads of fewer channels."""
    channels = reduction.heads * reduction.rank
    first, second = members
    if reduction.form == "query-key":
        return [Kernel(site.in_, (channels,), None) for site in members]
    return [Kernel(first.in_, (channels,), None), Kernel(channels, (second.out,), None)]


def _attention(reduction: Reduction, full: int) -> Attention:
    """Attention whose queries and keys, or whose values, have fewer channels."""
    if reduction.form == "query-key":
        return Attention(reduction.heads, reduction.rank, full)
    return Attention(reduction.heads, full, reduction.rank)
