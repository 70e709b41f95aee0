"""Carry out one reduction of a plan in a model, or rebuild a reduced model's structure without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import torch
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.factoring import conv_form, factors_of, joint_factors
from edgelr.lowrank.heads import NarrowHeads, Projection, narrow_query_key, narrow_value_output
from edgelr.lowrank.kinds import (
    empty_like,
    low_rank_like,
    matrix,
    matrix_of,
    reason_against,
    weight_of,
)
from edgelr.lowrank.layers import IntoHeads, LowRankLinear, OutOfHeads, replace_module
from edgelr.lowrank.sharing import shared_layers
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.svd import Factors
from edgelr.recipe.schema import Factors as Method
from edgelr.structure import Reduction


def reduce_sites(
    model: nn.Module,
    reduction: Reduction,
    statistics: Statistics,
    method: Method,
    emphasis: Mapping[str, float],
) -> dict[str, nn.Module]:
    """Replace the layers of one reduction, in place.

    Args:
        model: Its layers that the reduction names are dense.
        reduction: What to do.
        statistics: Of these layers.
        method: How factors are chosen.
        emphasis: Site -> what a unit of its error counts; for layers that share ``down``.

    Returns:
        The layers that were there before, by name: ``restore`` puts them back.
    """
    layers = _dense(model, reduction)
    match reduction.form:
        case "low-rank" | "spatial":
            factors = factors_of(weight_of(layers[0]), reduction, statistics, method)
            made: Sequence[nn.Module] = [low_rank_like(layers[0], factors, conv_form(reduction))]
            _keep_mean(layers, made, reduction.sites, statistics)
        case "joint":
            weights = [weight_of(layer) for layer in layers]
            made = _joint(layers, joint_factors(weights, reduction, statistics, method, emphasis))
            _keep_mean(layers, made, reduction.sites, statistics)
        case "query-key":
            pair = _linears(layers, reduction)
            made = _query_key(pair, reduction, query_key(pair, reduction, statistics))
        case "value-output":
            pair = _linears(layers, reduction)
            made = _value_output(pair, reduction, value_output(pair, reduction, statistics))
        case _:
            assert_never(reduction.form)
    return _put(model, reduction, layers, made)


def _put(
    model: nn.Module, reduction: Reduction, dense: Sequence[nn.Module], made: Sequence[nn.Module]
) -> dict[str, nn.Module]:
    """Put layers into the model, and what shares their weights; returns the dense ones."""
    layers = dict(zip(reduction.sites, made, strict=True))
    if reduction.shared:
        layers |= shared_layers(model, reduction.shared, dense[0], made[0])
    before = {name: model.get_submodule(name) for name in layers}
    for name, layer in layers.items():
        replace_module(model, name, layer)
    return before


def restore(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put layers back where they were."""
    for name, layer in layers.items():
        replace_module(model, name, layer)


def restructure(model: nn.Module, reductions: Sequence[Reduction]) -> None:
    """Give a dense model the (uninitialised) layers of a structure, in place.

    Raises:
        UnsupportedModelError: A named site is no layer of this model that can be factored so, or its size
            does not fit.
    """
    for reduction in reductions:
        layers = _dense(model, reduction)
        rank, heads = reduction.rank, reduction.heads
        made: list[nn.Module]
        match reduction.form:
            case "low-rank" | "spatial":
                _check_factors(layers, reduction)
                made = [empty_like(layers[0], rank, conv_form(reduction))]
            case "joint":
                _check_factors(layers, reduction)
                made = [empty_like(layer, rank) for layer in layers]
                _share_down(made)
            case "query-key":
                made = [_into_heads(layer, heads, rank) for layer in _linears(layers, reduction)]
            case "value-output":
                value, output = _linears(layers, reduction)
                made = [_into_heads(value, heads, rank), _out_of_heads(output, heads, rank)]
            case _:
                assert_never(reduction.form)
        _put(model, reduction, layers, made)


def query_key(layers: Sequence[nn.Linear], reduction: Reduction, statistics: Statistics) -> NarrowHeads:
    """Query and key with ``reduction.rank`` channels a head."""
    query, key = (_projection(layer) for layer in layers)
    mean, tokens = statistics.mean(reduction.sites[0])
    centered = query.weight @ statistics.covariance(reduction.sites[0]) @ query.weight.T
    middle = query.weight @ mean + query.bias
    return narrow_query_key(
        query,
        key,
        centered + tokens * middle[:, None] * middle,
        key.weight @ statistics.covariance(reduction.sites[1]) @ key.weight.T,
        reduction.heads,
        reduction.rank,
    )


def value_output(layers: Sequence[nn.Linear], reduction: Reduction, statistics: Statistics) -> NarrowHeads:
    """Value and output with ``reduction.rank`` channels a head."""
    value, output = (_projection(layer) for layer in layers)
    name = reduction.sites[1]
    return narrow_value_output(
        value, output, statistics.gram(name), statistics.curvature(name), reduction.heads, reduction.rank
    )


def _projection(layer: nn.Linear) -> Projection:
    weight = matrix(layer)
    bias = weight[:, 0] * 0 if layer.bias is None else layer.bias.detach().double().cpu().numpy()
    return Projection(weight=weight, bias=bias)


def _dense(model: nn.Module, reduction: Reduction) -> list[nn.Module]:
    """The layers of a reduction that its form can be of."""
    layers = []
    for name in (*reduction.sites, *reduction.shared):
        try:
            layer = model.get_submodule(name)
        except AttributeError:
            raise _foreign(f"factors '{name}', which is not a layer of this model") from None
        if (reason := reason_against(layer, conv_form(reduction))) is not None:
            raise _foreign(f"factors '{name}', which is not a layer that can be factored: {reason}")
        layers.append(layer)
    return layers[: len(reduction.sites)]


def _linears(layers: Sequence[nn.Module], reduction: Reduction) -> list[nn.Linear]:
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if len(linears) != 2:
        names = " and ".join(f"'{name}'" for name in reduction.sites)
        raise _foreign(f"makes attention heads of {names} smaller, which are not two linear layers")
    return linears


def _check_factors(layers: Sequence[nn.Module], reduction: Reduction) -> None:
    shapes = [matrix_of(layer, conv_form(reduction)).shape for layer in layers]
    inputs = {columns for _, columns in shapes}
    full = min(*inputs, sum(rows for rows, _ in shapes))
    if len(inputs) > 1 or not 1 <= reduction.rank <= full:
        names = ", ".join(f"'{name}'" for name in reduction.sites)
        raise _foreign(f"has factors of rank {reduction.rank} for {names}, whose sizes do not fit")


def _foreign(what: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"the structure {what}", "the checkpoint belongs to another model")


def _share_down(layers: Sequence[nn.Module]) -> None:
    for layer in layers[1:]:
        layer.down = layers[0].down


def _joint(layers: Sequence[nn.Module], factors: Factors) -> list[nn.Module]:
    made: list[nn.Module] = []
    start = 0
    for layer in layers:
        end = start + len(matrix(layer))
        made.append(low_rank_like(layer, Factors(up=factors.up[start:end], down=factors.down)))
        start = end
    _share_down(made)
    return made


@torch.no_grad()
def _keep_mean(
    dense: Sequence[nn.Module], made: Sequence[nn.Module], names: Sequence[str], statistics: Statistics
) -> None:
    """Put what factors that were fitted about the mean leave of it into the bias: outputs keep their mean."""
    if not statistics.about_mean(names):
        return
    mean, _ = statistics.mean(names[0])
    for before, layer in zip(dense, made, strict=True):
        assert isinstance(layer, LowRankLinear)
        assert layer.bias is not None
        left = torch.from_numpy(matrix(before) @ mean) - layer.weight.double() @ torch.from_numpy(mean)
        layer.bias.add_(left.to(layer.bias))


def _query_key(layers: Sequence[nn.Linear], reduction: Reduction, found: NarrowHeads) -> list[nn.Module]:
    query, key = (_into_heads(layer, reduction.heads, reduction.rank) for layer in layers)
    _fill(query.narrow, found.first)
    _fill(key.narrow, found.second)
    return [query, key]


def _value_output(layers: Sequence[nn.Linear], reduction: Reduction, found: NarrowHeads) -> list[nn.Module]:
    value = _into_heads(layers[0], reduction.heads, reduction.rank)
    output = _out_of_heads(layers[1], reduction.heads, reduction.rank)
    _fill(value.narrow, found.first)
    _fill(output.narrow, found.second)
    return [value, output]


def _into_heads(layer: nn.Linear, heads: int, size: int) -> IntoHeads:
    head_size = _head_size(layer.out_features, heads, size)
    return IntoHeads(layer.in_features, heads, head_size, size, bias=layer.bias is not None).to(layer.weight)


def _out_of_heads(layer: nn.Linear, heads: int, size: int) -> OutOfHeads:
    head_size = _head_size(layer.in_features, heads, size)
    bias = layer.bias is not None
    return OutOfHeads(heads, head_size, size, layer.out_features, bias=bias).to(layer.weight)


def _head_size(channels: int, heads: int, size: int) -> int:
    if heads < 1 or channels % heads or not 1 <= size <= channels // heads:
        raise _foreign(f"keeps {size} channels in each of {heads} heads; the layer has {channels} in all")
    return channels // heads


def _fill(layer: nn.Linear, projection: Projection) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(projection.weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(projection.bias))
