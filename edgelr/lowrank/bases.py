"""Large matrices are decomposed once, by the survey, which keeps a basis that all factors follow from.

The error is that of ``lowrank.svd``, ``Σ e tr(F Δ G Δᵀ)`` over the layers that share ``down`` (one layer, as
a rule), with e what a unit of a layer's error counts. With ``G = L Lᵀ`` its eigenproblem on the side of the
inputs is that of ``Lᵀ (Σ e Wᵀ F W) L``: layers that share ``down`` only add up in it. For eigenvectors Z the
columns of ``W L Z`` are ``up`` for every rank. One layer with fewer outputs than inputs is decomposed on the
side of its outputs instead, ``R W G Wᵀ Rᵀ`` with ``F = Rᵀ R``, where ``R⁻¹ Z`` is ``up``.

Only the space that ``up`` spans matters, since ``down`` is fitted to it. That is why fp32 is enough for what
is kept, and for the fit, while energies need fp64: those that are dropped may be a billionth of the first.

The floor is added to F itself; ``svd`` adds it to ``Wᵀ F W`` where a layer has more outputs than inputs, so
the two differ a little in directions that calibration hardly showed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelr.lowrank.svd import FLOOR, Factors, Matrix, eigen, triangle

LARGE = 1024  # the smaller side from which on a matrix is not decomposed twice
_TINY = 1e-12  # of the mean eigenvalue of G: keeps directions that no input had, as the very last ones

Basis = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One of the layers that share ``down``.

    Attributes:
        weight: ``[out, in]``.
        curvature: F ``[out, out]``; the identity when None.
        emphasis: What a unit of its error counts.
    """

    weight: Matrix
    curvature: Matrix | None = None
    emphasis: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a survey learns about a large matrix.

    Attributes:
        energies: ``[members, full]``: what each layer gets of the energy of each rank, its emphasis taken
            out.
        basis: ``[side, full]``, of the side that was decomposed.
    """

    energies: Matrix
    basis: Basis


def is_large(weights: Sequence[Matrix]) -> bool:
    """Whether layers ``[out, in]`` that share ``down`` are worth a basis."""
    return bool(min(sum(len(weight) for weight in weights), weights[0].shape[1]) >= LARGE)


def find_basis(layers: Sequence[Layer], gram: Matrix) -> Found:
    """Decompose layers that read one input.

    Args:
        layers: Those that share ``down``.
        gram: ``Σ x xᵀ`` of their input ``[in, in]``.

    Source:
        As of ``svd.decompose``.
    """
    if _by_outputs(layers):
        return _of_outputs(layers[0], gram)
    left = _half(gram)
    squares = [layer.weight.T @ _seen(layer) for layer in layers]
    whole = np.sum([layer.emphasis * square for layer, square in zip(layers, squares, strict=True)], axis=0)
    energies, vectors = eigen(left.T @ whole @ left)
    basis = left @ vectors
    # zᵀ Lᵀ (Wᵀ F W) L z: with one layer that is the eigenvalue itself.
    shares = (
        [energies / layers[0].emphasis]
        if len(layers) == 1
        else [np.einsum("ik,ik->k", basis, square @ basis) for square in squares]
    )
    full = min(sum(len(layer.weight) for layer in layers), len(gram))
    return Found(energies=np.clip(np.stack(shares)[:, :full], 0.0, None), basis=_unit(basis[:, :full]))


def factors_from(layers: Sequence[Layer], basis: Basis, rank: int) -> Factors:
    """The factors of one rank, balanced; of several layers, ``up`` is one below the other.

    Args:
        layers: Those of ``find_basis``.
        basis: What was found.
        rank: 1 to ``full``.

    Raises:
        ValueError: The rank is out of range.
    """
    if not 1 <= rank <= basis.shape[1]:
        raise ValueError(f"rank {rank} is outside 1 to {basis.shape[1]}")
    kept = basis[:, :rank]
    weights = [layer.weight.astype(np.float32) for layer in layers]
    ups = [kept] if _by_outputs(layers) else [weight @ kept for weight in weights]
    metrics = [_metric(layer) for layer in layers]
    # A common scale, that fp32 may hold them: what matters is how the layers compare.
    means = [1.0 if metric is None else float(np.trace(metric)) / len(metric) for metric in metrics]
    scale = max(mean * layer.emphasis for mean, layer in zip(means, layers, strict=True))
    seen = [
        up * np.float32(layer.emphasis / scale)
        if metric is None
        else (metric * (layer.emphasis / scale)).astype(np.float32) @ up
        for up, metric, layer in zip(ups, metrics, layers, strict=True)
    ]
    return _fitted(np.concatenate(ups), np.concatenate(seen), np.concatenate(weights))


def _fitted(up: Basis, metric: Basis, weight: Basis) -> Factors:
    """Fit ``down`` to ``up``, and balance the two; large products in fp32, all that is solved in fp64.

    Args:
        up: ``[out, rank]``.
        metric: What ``up`` is seen as by the error, ``e F up``.
        weight: ``[out, in]``.
    """
    if not weight.any():
        return Factors(up=up.astype(np.float64), down=np.zeros((up.shape[1], weight.shape[1])))
    # Nearly orthogonal in the metric: once they are scaled, the normal equations are well conditioned.
    normal, target = metric.T @ up, metric.T @ weight
    scale = 1 / np.sqrt(np.maximum(normal.diagonal(), np.finfo(np.float32).tiny))
    up, target = up * scale, target * scale[:, None]
    scaled = (normal * scale * scale[:, None]).astype(np.float64)
    solved = np.linalg.inv((scaled + scaled.T) / 2 + _TINY * np.eye(len(scaled)))
    # With up = Q R, the singular values of R down are those of the product: √σ goes to each side. Rounding
    # of these matrices is scale, not the product: one side gets the inverse of the other's.
    above = triangle((up.T @ up).astype(np.float64), _TINY)
    inner = above @ solved
    energies, vectors = eigen(inner @ (target @ target.T).astype(np.float64) @ inner.T)
    root = np.maximum(energies, energies[0] * np.finfo(np.float64).eps) ** 0.25
    turn = np.linalg.solve(above, vectors * root).astype(np.float32)
    down = np.linalg.solve(turn.astype(np.float64), solved).astype(np.float32) @ target
    return Factors(up=(up @ turn).astype(np.float64), down=down.astype(np.float64))


def _by_outputs(layers: Sequence[Layer]) -> bool:
    return len(layers) == 1 and layers[0].weight.shape[0] <= layers[0].weight.shape[1]


def _of_outputs(layer: Layer, gram: Matrix) -> Found:
    known = _metric(layer)
    root = None if known is None else triangle(known, _TINY)
    seen = layer.weight if root is None else root @ layer.weight
    energies, vectors = eigen(seen @ gram @ seen.T)
    basis = vectors if root is None else np.asarray(np.linalg.solve(root, vectors), np.float64)
    return Found(energies=energies[None], basis=_unit(basis))


def _half(gram: Matrix) -> Matrix:
    """L with ``L Lᵀ = gram [in, in]``."""
    lifted = (gram + gram.T) / 2 + _TINY * (np.trace(gram) / len(gram) or 1.0) * np.eye(len(gram))
    try:
        return np.asarray(np.linalg.cholesky(lifted), np.float64)
    except np.linalg.LinAlgError:  # rounding below zero by more than what was added
        energies, vectors = eigen(lifted)
        return np.asarray(vectors * np.sqrt(energies), np.float64)


def _seen(layer: Layer) -> Matrix:
    """``F W`` with the floor of F."""
    known = _metric(layer)
    return layer.weight if known is None else np.asarray(known @ layer.weight, np.float64)


def _metric(layer: Layer) -> Matrix | None:
    """F with its floor; of a layer that nothing depends on, the identity."""
    if layer.curvature is None or not layer.curvature.any():
        return None
    size = len(layer.curvature)
    return np.asarray(layer.curvature + FLOOR * (np.trace(layer.curvature) / size) * np.eye(size), np.float64)


def _unit(basis: Matrix) -> Basis:
    """Columns of length one: they may differ by more orders of magnitude than fp32 has."""
    lengths = np.linalg.norm(basis, axis=0)
    return np.asarray(basis / np.where(lengths > 0, lengths, 1.0), np.float32)
