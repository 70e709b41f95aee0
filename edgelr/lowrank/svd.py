"""Truncated factors of a weight matrix. The matrix convention of the whole project is fixed here.

``weight [out, in] ≈ up [out, rank] @ down [rank, in]``; a factored linear is ``y = up (down x) + bias``.

Two ways to choose the factors:

* plain: the truncated SVD of the weight, best for the weight itself (Eckart-Young). Inputs of trained
  networks are far from white, so it is a poor choice without tuning.
* whitened: the truncated SVD of the *outputs* ``W X`` on calibration inputs X. With the Gram matrix
  ``G = X Xᵀ`` and U the leading eigenvectors of ``W G Wᵀ``, ``up = U`` and ``down = Uᵀ W`` minimise
  ``‖W X - up down X‖²`` over all matrices of that rank; the minimum is the sum of the dropped eigenvalues.
  It is the optimum of SVD-LLM and DRONE, but needs no inverse and no Cholesky, so rank-deficient
  statistics do no harm.

Everything is computed in fp64; matrices are small next to the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


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


def output_energies(weight: Matrix, gram: Matrix) -> Matrix:
    """Eigenvalues of ``W G Wᵀ``, largest first: the output energy that each further rank keeps.

    Args:
        weight: ``[out, in]``.
        gram: ``Σ x xᵀ`` over the calibration inputs, ``[in, in]``.

    Returns:
        ``[min(out, in)]``, non-negative. Their sum is ``Σ ‖W x‖²``, and the tail beyond rank r is the squared
        error of the whitened factors of rank r.

    Source:
        Wang et al., SVD-LLM (ICLR 2025), theorem 3.2; Chen et al., DRONE (NeurIPS 2021), eq. 4.
    """
    _, small = _reduced(weight)
    return np.clip(np.linalg.eigvalsh(_symmetric(small @ gram @ small.T))[::-1], 0.0, None)


def whitened_factors(weight: Matrix, gram: Matrix, rank: int) -> Factors:
    """Best factors for the calibration inputs behind ``gram`` (output-PCA form), balanced.

    Args:
        weight: ``[out, in]``.
        gram: ``Σ x xᵀ``, ``[in, in]``.
        rank: 1 to ``min(out, in)``.

    Raises:
        ValueError: ``rank`` is out of range.
    """
    _check_rank(weight, rank)
    basis, small = _reduced(weight)
    _, vectors = np.linalg.eigh(_symmetric(small @ gram @ small.T))
    leading = vectors[:, ::-1][:, :rank]
    return balanced(Factors(up=basis @ leading, down=leading.T @ small))


def plain_factors(weight: Matrix, rank: int) -> Factors:
    """Truncated SVD of the weight itself, balanced.

    Args:
        weight: ``[out, in]``.
        rank: 1 to ``min(out, in)``.

    Raises:
        ValueError: ``rank`` is out of range.

    Source:
        Eckart and Young, The approximation of one matrix by another of lower rank (1936).
    """
    _check_rank(weight, rank)
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    root = np.sqrt(values[:rank])
    return Factors(up=left[:, :rank] * root, down=root[:, None] * right[:rank])


def balanced(factors: Factors) -> Factors:
    """The same product with √σ on both sides.

    With an orthonormal ``up`` the two factors differ in scale by orders of magnitude, and tuning diverges:
    a step that suits one is far too large for the other.

    Args:
        factors: ``up`` with orthonormal columns.
    """
    left, values, right = np.linalg.svd(factors.down, full_matrices=False)
    root = np.sqrt(values)
    return Factors(up=(factors.up @ left) * root, down=root[:, None] * right)


def _reduced(weight: Matrix) -> tuple[Matrix, Matrix]:
    """``basis @ small == weight`` with orthonormal ``basis``, so that eigenproblems have the smaller side."""
    if weight.shape[0] <= weight.shape[1]:
        return np.eye(weight.shape[0]), weight
    basis, small = np.linalg.qr(weight)
    return basis, small


def _symmetric(matrix: Matrix) -> Matrix:
    return (matrix + matrix.T) / 2


def _check_rank(weight: Matrix, rank: int) -> None:
    if not 1 <= rank <= min(weight.shape):
        raise ValueError(
            f"rank {rank} is outside 1 to {min(weight.shape)} for a weight of shape {weight.shape}"
        )
