"""Truncated factors of a weight matrix. The matrix convention of the whole project is fixed here.

``weight [out, in] ≈ up [out, rank] @ down [rank, in]``; a factored linear is ``y = up (down x) + bias``.

All ways to choose the factors minimise one error, ``tr(F Δ G Δᵀ)`` with ``Δ = weight - up down``, and
differ in what they know:

* plain, ``F = I, G = I``: the truncated SVD of the weight, best for the weight itself (Eckart-Young). Inputs
  of trained networks are far from white, so it is a poor choice without tuning.
* whitened, ``G = Σ x xᵀ`` over calibration inputs: best for the layer's *output* on the inputs it really
  sees. It is the optimum of SVD-LLM and DRONE.
* kronecker, also ``F = Σ g gᵀ`` over gradients of the model's output at the layer's output: best for the
  *model's* output. Directions that the rest of the network ignores may go first. The error is the
  Gauss-Newton estimate of the change of the model's output, with the curvature of the layer as a Kronecker
  product of F and G.

Everything is computed in fp64 on the smaller side of the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# Added to the eigenvalues of a statistic, relative to their mean, where its inverse is needed: directions
# that a calibration set never showed are then of little weight rather than of none.
FLOOR = 0.01
_INDEPENDENT = 1e-5  # smallest diagonal of a Cholesky factor, relative, whose square fp64 still resolves
_NOTHING = 1e-30  # in place of the root of a statistic that is zero: of no weight, and with an inverse


@dataclass(frozen=True, kw_only=True)
class Factors:
    """``weight ≈ up @ down``.

    Attributes:
        up: ``[out, rank]``.
        down: ``[rank, in]``.
    """

    up: Matrix
    down: Matrix

    @property
    def product(self) -> Matrix:
        """The matrix that the factors stand for, ``[out, in]``."""
        return self.up @ self.down


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """Factors of every rank at once: those of rank r are the first r columns of ``up`` and rows of ``down``.

    Attributes:
        up: ``[out, full]`` with ``full = min(out, in)``; of several matrices, one below the other.
        down: ``[full, in]``.
        energies: ``[full]``, largest first; the squared error of rank r is ``energies[r:].sum()``.
    """

    up: Matrix
    down: Matrix
    energies: Matrix

    def truncated(self, rank: int) -> Factors:
        """The factors of one rank, balanced.

        Raises:
            ValueError: ``rank`` is out of range.
        """
        full = len(self.energies)
        if not 1 <= rank <= full:
            shape = (self.up.shape[0], self.down.shape[1])
            raise ValueError(f"rank {rank} is outside 1 to {full} for a weight of shape {shape}")
        return balanced(Factors(up=self.up[:, :rank], down=self.down[:rank]))


def decompose(
    weight: Matrix, gram: Matrix | None = None, curvature: Matrix | None = None, rank: int | None = None
) -> Decomposition:
    """Decompose ``weight`` so that truncation loses least of ``tr(F Δ G Δᵀ)``.

    With ``Fᵀ F = curvature`` that is the PCA of ``F W x``. Its eigenproblem is that of the smaller side: for
    ``out > in`` the matrix ``F W`` is first written as an orthonormal basis times a square matrix, which is
    all that the Gram matrix meets. No inverse of the Gram matrix is ever needed.

    Args:
        weight: ``[out, in]``.
        gram: G ``[in, in]``, symmetric and non-negative; the identity when None.
        curvature: F ``[out, out]``, likewise; the floor is added to it.
        rank: The largest rank that is wanted; all when None.

    Source:
        Wang et al., SVD-LLM (ICLR 2025), theorem 3.2, and Chen et al., DRONE (NeurIPS 2021), eq. 4, for G;
        Martens and Grosse, K-FAC (ICML 2015), for the Kronecker-factored curvature; Chekalina et al.,
        Generalized Fisher-Weighted SVD (2025), for factors under it.
    """
    if gram is None and curvature is None:  # the best for the weight itself (Eckart and Young, 1936)
        left, values, right = np.linalg.svd(weight, full_matrices=False)
        return Decomposition(up=left * values, down=right, energies=values**2)
    if curvature is None and weight.shape[0] > weight.shape[1]:
        return principal(*orthonormal(weight), gram, rank)
    return principal(*split(weight, curvature), gram, rank)


def split(weight: Matrix, curvature: Matrix | None) -> tuple[Matrix | None, Matrix]:
    """Write ``weight`` as ``back @ seen`` where an error of ``seen x`` counts as much in every direction.

    Args:
        weight: ``[out, in]``.
        curvature: ``[out, out]``; the identity when None.

    Returns:
        ``back [out, full]``, None for the identity, and ``seen [full, in]``; with a curvature, ``full`` is
        the smaller side.
    """
    if curvature is None:
        return None, weight
    if weight.shape[0] <= weight.shape[1]:
        root = triangle(curvature)
        return np.asarray(np.linalg.inv(root), np.float64), root @ weight
    root = triangle(weight.T @ curvature @ weight)
    return weight @ np.linalg.inv(root), root


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
        seen = weight if out <= in_ else orthonormal(weight)[1]
    else:
        seen = triangle(curvature) @ weight if out <= in_ else triangle(weight.T @ curvature @ weight)
    square = seen @ seen.T if gram is None else seen @ gram @ seen.T
    return np.clip(np.linalg.eigvalsh((square + square.T) / 2)[::-1], 0.0, None)


def decompose_outputs(weight: Matrix, output_gram: Matrix, curvature: Matrix | None = None) -> Decomposition:
    """The same as ``decompose``, from the Gram matrix of the *outputs*: ``W G Wᵀ = Σ y yᵀ`` is all it needs.

    Args:
        weight: ``[out, in]``.
        output_gram: ``Σ y yᵀ`` over ``y = W x``, ``[out, out]``.
        curvature: F ``[out, out]``; the identity when None.
    """
    out, in_ = weight.shape
    root, inverse = (np.eye(out), np.eye(out)) if curvature is None else roots(curvature)
    # More rows than columns: within the space that the weight reaches, so that full rank is exact.
    basis, seen = (np.eye(out), root @ weight) if out <= in_ else np.linalg.qr(root @ weight)
    energies, vectors = eigen(basis.T @ root @ output_gram @ root @ basis)
    return Decomposition(up=inverse @ basis @ vectors, down=vectors.T @ seen, energies=energies)


def principal(
    back: Matrix | None, seen: Matrix, gram: Matrix | None, rank: int | None = None
) -> Decomposition:
    """PCA of ``seen x``: the weight is ``back @ seen``, and its error is measured on ``seen``.

    Args:
        back: ``[out, full]``; the identity when None.
        seen: ``[full, in]``.
        gram: ``Σ x xᵀ`` ``[in, in]``; the identity when None.
        rank: The largest rank that is wanted; all when None.
    """
    energies, vectors = eigen(seen @ seen.T if gram is None else seen @ gram @ seen.T)
    energies, vectors = energies[:rank], vectors[:, :rank]
    up = vectors if back is None else back @ vectors
    return Decomposition(up=up, down=vectors.T @ seen, energies=energies)


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Matrices that read the same input, with one ``down`` for all of them.

    Attributes:
        decomposition: Of the matrices one below the other.
        energies: ``[members, full]``: what each member gets of the energies, its emphasis taken out.
    """

    decomposition: Decomposition
    energies: Matrix


def decompose_jointly(
    weights: Sequence[Matrix],
    gram: Matrix,
    curvatures: Sequence[Matrix] | None,
    emphasis: Sequence[float],
) -> Joint:
    """Decompose layers that read the same input so that they share ``down``.

    Args:
        weights: Each ``[out_i, in]``.
        gram: ``Σ x xᵀ`` of the common input, ``[in, in]``.
        curvatures: Of each layer ``[out_i, out_i]``, or None.
        emphasis: What a unit of each layer's error counts; positive.
    """
    stacked = np.concatenate(weights)
    if curvatures is None:
        scales = np.concatenate([np.full(len(w), s**0.5) for w, s in zip(weights, emphasis, strict=True)])
        scaled = decompose(scales[:, None] * stacked, gram)
        up = scaled.up / scales[:, None]
        found = Decomposition(up=up, down=scaled.down, energies=scaled.energies)
    else:
        squares = [s * w.T @ c @ w for w, c, s in zip(weights, curvatures, emphasis, strict=True)]
        root = triangle(np.sum(squares, axis=0))
        found = principal(stacked @ np.linalg.inv(root), root, gram)
    parts = np.split(found.up, np.cumsum([len(weight) for weight in weights])[:-1])
    shares = [
        (part**2).sum(axis=0) if curvatures is None else np.einsum("ok,op,pk->k", part, curvatures[i], part)
        for i, part in enumerate(parts)
    ]
    return Joint(decomposition=found, energies=found.energies * np.stack(shares))


def balanced(factors: Factors) -> Factors:
    """The same product with √σ on both sides.

    With an orthonormal ``up`` the two factors differ in scale by orders of magnitude, and tuning diverges:
    a step that suits one is far too large for the other.
    """
    left, above = orthonormal(factors.up)
    inner = above @ factors.down
    # Its SVD from its Gram matrix: what small singular values lose to rounding is scale, not the product.
    energies, vectors = eigen(inner @ inner.T)
    root = np.maximum(energies, energies[0] * np.finfo(np.float64).eps) ** 0.25
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    return Factors(up=(left @ vectors) * root, down=inverse[:, None] * (vectors.T @ inner))


def orthonormal(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """An orthonormal basis of the columns of ``matrix [rows, columns]``, and the triangle with their product.

    By two Cholesky factors, which is all matrix products, several times faster than NumPy's QR of a tall
    matrix; where columns are nearly dependent, or there are more of them than rows, by that.

    Source:
        Yamamoto et al., Roundoff error analysis of the CholeskyQR2 algorithm (2015).
    """
    rows, columns = matrix.shape
    if rows > columns:
        try:
            first = np.linalg.cholesky(matrix.T @ matrix).T
            if first.diagonal().min() > _INDEPENDENT * first.diagonal().max():
                basis = np.linalg.solve(first.T, matrix.T).T
                second = np.linalg.cholesky(basis.T @ basis).T
                return np.linalg.solve(second.T, basis.T).T, second @ first
        except np.linalg.LinAlgError:  # dependent columns
            pass
    basis, above = np.linalg.qr(matrix)
    return np.asarray(basis, np.float64), np.asarray(above, np.float64)


def triangle(matrix: Matrix, floor_share: float = FLOOR) -> Matrix:
    """R with ``Rᵀ R = matrix [size, size]`` plus the floor; several times cheaper than the symmetric root."""
    size = len(matrix)
    floor = floor_share * np.trace(matrix) / size
    if not floor > 0:
        return _NOTHING * np.eye(size)
    try:
        return np.linalg.cholesky((matrix + matrix.T) / 2 + floor * np.eye(size)).T
    except np.linalg.LinAlgError:  # rounding below zero by more than the floor
        return roots(matrix)[0]


def roots(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Symmetric root of ``matrix [size, size]`` plus the floor, and the root's inverse."""
    energies, vectors = eigen(matrix)
    floor = FLOOR * energies.mean()
    lifted = np.sqrt(energies + floor) if floor > 0 else np.full(len(energies), _NOTHING)
    return (vectors * lifted) @ vectors.T, (vectors / lifted) @ vectors.T


def eigen(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues (largest first, none negative) and eigenvectors (columns) of a symmetric matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.clip(values[::-1], 0.0, None), np.asarray(vectors[:, ::-1], np.float64)
