"""For large matrices: the spectrum without factors, and the leading factors without a full decomposition.

Leading factors are found by randomized subspace iteration, and checked. The eigenproblem is that of
``lowrank.svd``: the leading eigenvectors V of ``S = seen G seenᵀ``. A random basis is multiplied by S a few
times and made orthonormal in between, which turns it towards them. That needs no more than fp32: the basis
only has to be good, and how good it is, is computed in fp64 from the eigenproblem within it. The survey knows
the whole spectrum, hence the error of the best factors; a basis that does not come within ``TOLERANCE`` of it
is given up for the exact decomposition.

Source:
    Halko, Martinsson, Tropp, Finding structure with randomness (SIAM Review 2011), algorithm 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from edgelr.lowrank.svd import Decomposition, Matrix, eigen, orthonormal, split, triangle

LARGE = 1024  # the smaller side from which on it is faster than the exact decomposition
SHARE = 1 / 4  # and the share of that side up to which ranks are
TOLERANCE = 0.005  # of the error, over that of the best factors
_STEPS = (4, 2, 2)  # multiplications with S before each check
_FORM = 1 / 7  # share of the smaller side from which on it pays to form a square matrix of that side first


def spectrum(weight: Matrix, gram: Matrix | None = None, curvature: Matrix | None = None) -> Matrix:
    """The ``energies`` of ``decompose`` alone, which take a fraction of its time.

    Args:
        weight: ``[out, in]``.
        gram: As of ``decompose``.
        curvature: As of ``decompose``.

    Returns:
        ``[min(out, in)]``, largest first.
    """
    if gram is None and curvature is None:
        values = np.linalg.svd(weight, compute_uv=False)
        return np.asarray(values**2, np.float64)
    out, in_ = weight.shape
    if curvature is None:
        seen = weight if out <= in_ else torch.linalg.qr(torch.from_numpy(weight), mode="r")[1].numpy()
    else:
        seen = triangle(curvature) @ weight if out <= in_ else triangle(weight.T @ curvature @ weight)
    square = seen @ seen.T if gram is None else seen @ gram @ seen.T
    return np.clip(np.linalg.eigvalsh((square + square.T) / 2)[::-1], 0.0, None)


def leading(
    weight: Matrix, gram: Matrix, curvature: Matrix | None, rank: int, spectrum: Matrix
) -> Decomposition | None:
    """The factors of ``decompose`` for ranks up to one; None where they are not worth it or not good enough.

    Args:
        weight: ``[out, in]``.
        gram: As of ``decompose``.
        curvature: As of ``decompose``.
        rank: The largest rank that is wanted.
        spectrum: ``svd.spectrum`` of the three, ``[min(out, in)]``.
    """
    full = min(weight.shape)
    if full < LARGE or rank > SHARE * full:
        return None
    back, seen = split(weight, curvature)
    best, whole = float(spectrum[rank:].sum()), float(spectrum.sum())
    width = min(full, rank + rank // 8 + 16)  # a basis wider than what is wanted of it gets there sooner
    bases = _bases(seen, gram, width)
    for _ in _STEPS:
        columns, _ = orthonormal(next(bases).double().numpy())
        inside = columns.T @ seen
        energies, vectors = eigen(inside @ gram @ inside.T)
        if whole - energies[:rank].sum() <= (1 + TOLERANCE) * best:
            turned = vectors[:, :rank]
            up = columns @ turned if back is None else back @ (columns @ turned)
            return Decomposition(up=up, down=turned.T @ inside, energies=energies[:rank])
    return None


def _bases(seen: Matrix, gram: Matrix, width: int) -> Iterator[Tensor]:
    """Better and better bases ``[rows of seen, width]`` of the leading eigenvectors of S."""
    # By their sizes, so that fp32 neither overflows nor loses what is small everywhere.
    left, middle = (torch.from_numpy(each / (np.abs(each).max() or 1.0)).float() for each in (seen, gram))
    out, in_ = seen.shape
    start = torch.randn(min(out, in_), width, generator=torch.Generator().manual_seed(0))
    if width < _FORM * min(out, in_):
        step = _chain(left, middle, left.T) if out <= in_ else _chain(middle, left.T, left)
    else:
        step = _chain(left @ middle @ left.T) if out <= in_ else _chain(middle, left.T @ left)
    for steps in _STEPS:
        for _ in range(steps):
            start = torch.linalg.qr(step(start))[0]
        # More rows than columns: the iteration is that of G Wᵀ W, whose eigenvectors W takes to those of S.
        yield start if out <= in_ else left @ start


def _chain(*matrices: Tensor) -> Callable[[Tensor], Tensor]:
    """Multiplication from the left with one matrix after the other, the last one first."""

    def apply(basis: Tensor) -> Tensor:
        for matrix in reversed(matrices):
            basis = matrix @ basis
        return basis

    return apply
