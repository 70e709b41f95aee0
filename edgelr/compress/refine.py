"""Fit every layer anew, in the order they run, to the inputs that the compressed layers before it give.

Factors chosen on the dense model's inputs leave each layer to work with inputs that it was not made for, and
errors pile up. Here each layer is fitted, by least squares, to give the dense model's output from the
compressed model's input; what its factors cannot do is left to the layers after it. Layers that stayed dense
are fitted too: they can undo some of what came before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.errors import DataError
from edgelr.lowrank.kinds import matrix
from edgelr.lowrank.layers import LowRankLinear, OutOfHeads
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.stored import bring_in
from edgelr.lowrank.svd import Decomposition, Matrix, decompose, decompose_jointly
from edgelr.progress import Progress

Batch = Mapping[str, Tensor]
Run = Callable[[nn.Module, Batch], object]

# Of the mean eigenvalue of the inputs' Gram matrix: how strongly a layer holds on to the weights it has.
RIDGE = 0.01


class _Reached(Exception):  # noqa: N818 - not an error: what is needed of this batch is there
    """The layers in question have run."""


@dataclass(kw_only=True)
class _Moments:
    """Sums over tokens of the compressed model's inputs x and the dense model's outputs y."""

    tokens: float = 0.0
    x: Matrix = field(default_factory=lambda: np.zeros(0))
    xx: Matrix = field(default_factory=lambda: np.zeros(0))
    y: dict[str, Matrix] = field(default_factory=dict)
    yx: dict[str, Matrix] = field(default_factory=dict)


def refine(
    model: nn.Module,
    dense: nn.Module,
    statistics: Statistics,
    emphasis: Mapping[str, float],
    batches: Sequence[Batch],
    run: Run,
    progress: Progress,
) -> None:
    """Fit the layers of a compressed model anew, in place.

    Layers that feed attention heads of fewer channels keep their weights: the dense model has nothing that
    these channels could be fitted to.

    Args:
        model: The compressed model.
        dense: The model that it was made of.
        statistics: Which sites share an input, and the curvatures at their outputs.
        emphasis: Site -> what a unit of its error counts; for layers that share ``down``.
        batches: Calibration data.
        run: Runs a model on a batch.
        progress: Where to show how far it is.

    Raises:
        DataError: Activations are not finite; the layer is named.
    """
    groups = [
        [name for name in names if _fits(model.get_submodule(name))]
        for names in _by_input(statistics.inputs).values()
    ]
    groups = [names for names in groups if names]
    with progress.bar("refining", len(groups)) as advance:
        for names in groups:
            moments = _gather(model, dense, names, batches, run)
            _check_finite(names[0], moments)
            _fit(model, names, moments, statistics, emphasis)
            advance(note=names[0])


def _fits(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | LowRankLinear | OutOfHeads)


def _by_input(inputs: Mapping[str, str]) -> dict[str, list[str]]:
    """Sites that read the same input, in the order they ran."""
    groups: dict[str, list[str]] = {}
    for name, source in inputs.items():
        groups.setdefault(source, []).append(name)
    return groups


@torch.no_grad()
def _gather(
    model: nn.Module, dense: nn.Module, names: Sequence[str], batches: Sequence[Batch], run: Run
) -> _Moments:
    moments = _Moments()
    for batch in batches:
        mask = batch.get("attention_mask")
        outputs = {name: seen[1] for name, seen in _seen(dense, names, batch, run).items()}
        inputs = _seen(model, names[:1], batch, run)[names[0]][0]
        x = _rows(inputs, mask)
        moments.tokens += len(x)
        moments.x = moments.x + x.sum(axis=0) if moments.x.size else x.sum(axis=0)
        moments.xx = moments.xx + x.T @ x if moments.xx.size else x.T @ x
        for name in names:
            y = _rows(outputs[name], mask)
            moments.y[name] = moments.y.get(name, 0.0) + y.sum(axis=0)
            moments.yx[name] = moments.yx.get(name, 0.0) + y.T @ x
    return moments


def _seen(model: nn.Module, names: Sequence[str], batch: Batch, run: Run) -> dict[str, tuple[Tensor, Tensor]]:
    """(input, output) of some layers, the model stopped when all of them have run."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    with _watching(model, names, seen), suppress(_Reached):
        run(model, batch)
    return seen


@contextmanager
def _watching(
    model: nn.Module, names: Sequence[str], seen: dict[str, tuple[Tensor, Tensor]]
) -> Iterator[None]:
    def hook(name: str) -> Callable[..., None]:
        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            seen[name] = (args[0] if args else next(iter(kwargs.values())), output)
            if len(seen) == len(names):
                raise _Reached

        return after

    handles = [
        model.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True) for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(tensor: Tensor, mask: Tensor | None) -> Matrix:
    masked = mask is not None and tensor.shape[:-1] == mask.shape
    rows = tensor[mask.bool()] if masked and mask is not None else tensor.reshape(-1, tensor.shape[-1])
    return rows.double().cpu().numpy()


def _check_finite(name: str, moments: _Moments) -> None:
    if not np.isfinite(moments.xx).all() or not all(np.isfinite(y).all() for y in moments.yx.values()):
        raise DataError(
            f"the input or output of '{name}' is not finite (NaN or infinity) in the compressed model",
            "keep more, or leave compress.refine out",
        )


def _fit(
    model: nn.Module,
    names: Sequence[str],
    moments: _Moments,
    statistics: Statistics,
    emphasis: Mapping[str, float],
) -> None:
    layers = {name: model.get_submodule(name) for name in names}
    shared = {name: layer for name, layer in layers.items() if _shares(layer, layers)}
    for name, layer in layers.items():
        seen = _about_mean(layer, moments)
        if isinstance(layer, OutOfHeads):
            narrow = _narrowed(layer, seen)
            _set_linear(layer.narrow, name, narrow, _solve(matrix(layer.narrow), name, narrow))
        elif isinstance(layer, nn.Linear):
            _set_linear(layer, name, seen, _solve(matrix(layer), name, seen))
        elif isinstance(layer, LowRankLinear) and name not in shared:
            best = _solve(_product(layer), name, seen)
            found = decompose(best, _centered(seen), statistics.curvature(name))
            _set_factors({name: layer}, seen, found)
    if shared:
        seen = _about_mean(next(iter(shared.values())), moments)
        _set_factors(shared, seen, _solve_jointly(shared, seen, statistics, emphasis))


def _about_mean(layer: nn.Module, moments: _Moments) -> _Moments:
    """The moments as they are; about zero for a layer without a bias, which cannot move its mean."""
    if getattr(layer, "bias", None) is not None or isinstance(layer, OutOfHeads):
        return moments
    zeros = {name: 0 * y for name, y in moments.y.items()}
    return _Moments(tokens=moments.tokens, x=0 * moments.x, xx=moments.xx, y=zeros, yx=moments.yx)


def _narrowed(layer: OutOfHeads, moments: _Moments) -> _Moments:
    """Of the channels that a narrow output projection reads."""
    keep = np.arange(layer.in_features).reshape(layer.heads, -1)[:, : layer.size].ravel()
    crossed = {name: yx[:, keep] for name, yx in moments.yx.items()}
    seen = _Moments(
        tokens=moments.tokens, x=moments.x[keep], xx=moments.xx[np.ix_(keep, keep)], y=moments.y, yx=crossed
    )
    return _about_mean(layer.narrow, seen)


def _shares(layer: nn.Module, layers: Mapping[str, nn.Module]) -> bool:
    """Whether another of the layers has the same ``down``."""
    return isinstance(layer, LowRankLinear) and any(
        other is not layer and isinstance(other, LowRankLinear) and other.down is layer.down
        for other in layers.values()
    )


def _solve_jointly(
    layers: Mapping[str, nn.Module], moments: _Moments, statistics: Statistics, emphasis: Mapping[str, float]
) -> Decomposition:
    best = [_solve(_product(layer), name, moments) for name, layer in layers.items()]
    curvatures = [found for name in layers if (found := statistics.curvature(name)) is not None]
    weights = [emphasis[name] for name in layers]
    return decompose_jointly(best, _centered(moments), curvatures or None, weights).decomposition


def _solve(weight: Matrix, name: str, moments: _Moments) -> Matrix:
    """The matrix ``[out, in]`` that gives the dense outputs best, drawn a little towards the present one."""
    centered = _centered(moments)
    ridge = RIDGE * np.trace(centered) / len(centered) or 1.0  # inputs that never move leave the weight alone
    crossed = moments.yx[name] - np.outer(moments.y[name], moments.x) / moments.tokens
    lifted = centered + ridge * np.eye(len(centered))
    return np.asarray(np.linalg.solve(lifted, (crossed + ridge * weight).T).T, np.float64)


def _centered(moments: _Moments) -> Matrix:
    return moments.xx - np.outer(moments.x, moments.x) / moments.tokens


def _product(layer: nn.Module) -> Matrix:
    assert isinstance(layer, LowRankLinear)
    return layer.weight.detach().double().cpu().numpy()


def _set_linear(layer: nn.Linear, name: str, moments: _Moments, weight: Matrix) -> None:
    bring_in(layer, empty=True)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy((moments.y[name] - weight @ moments.x) / moments.tokens))


def _set_factors(layers: Mapping[str, nn.Module], moments: _Moments, found: Decomposition) -> None:
    start = 0
    with torch.no_grad():
        for name, layer in layers.items():
            assert isinstance(layer, LowRankLinear)
            factors = found.truncated(layer.rank)
            up = factors.up[start : start + layer.out_features]
            start += layer.out_features
            layer.up.copy_(torch.from_numpy(up))
            layer.down.copy_(torch.from_numpy(factors.down))
            if layer.bias is not None:
                offset = moments.y[name] - up @ (factors.down @ moments.x)
                layer.bias.copy_(torch.from_numpy(offset / moments.tokens))
