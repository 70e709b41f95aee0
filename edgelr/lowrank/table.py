"""Factors of an embedding table: the principal components of its rows, weighted by how often each is used.

An embedding is a linear layer whose input is a one-hot vector. Its matrix is the table's transpose
``[dim, vocabulary]``, and the Gram matrix of its inputs is diagonal: how often each token came. So the
whitened factors of ``svd.py`` need only the ``[dim, dim]`` Gram matrix of the rows, however large the
vocabulary; tables are read in blocks of rows and only these are held in fp64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.lowrank.svd import Factors, Matrix, eigen, roots

Table = NDArray[np.floating[Any]]

UNSEEN_COUNT = 0.1
"""What a token counts that calibration never showed. Not 0: its row would be left to chance, and the device
will meet it. Not 1: nine rows of ten of a multilingual vocabulary are unseen, and would outvote what is used.
"""

_ROWS = 8192  # of a block: 64 MB in fp64 for 1024 dimensions


def factor_table(table: Table, counts: NDArray[Any], rank: int, curvature: Matrix | None = None) -> Factors:
    """Best factors of an embedding for the tokens that calibration counted, balanced.

    With U the leading eigenvectors of ``Σ count · row rowᵀ``, ``up = U`` and ``down = Uᵀ tableᵀ`` minimise
    ``Σ count · ‖row - approximation‖²``. A curvature ``F = R²`` weighs the directions of the rows: then U is
    of the rows ``R row``, ``up = R⁻¹ U`` and ``down = Uᵀ R tableᵀ``.

    Args:
        table: ``[vocabulary, dim]``, any floating type.
        counts: How often each token came, ``[vocabulary]``; those of 0 count ``UNSEEN_COUNT``.
        rank: 1 to ``min(vocabulary, dim)``.
        curvature: Of the model's output at the looked-up vectors, ``[dim, dim]``; the identity when None.

    Returns:
        ``up [dim, rank]`` and ``down [rank, vocabulary]``.

    Raises:
        ValueError: ``rank`` is out of range, or the counts do not fit the table.

    Source:
        Chen et al., GroupReduce (NeurIPS 2018): frequency-weighted low-rank approximation.
    """
    check_rank(table, rank)
    root, inverse = _roots(table, curvature)
    _, vectors = eigen(root @ weighted_gram(table, row_weights(table, counts)) @ root)
    leading = vectors[:, :rank]
    up, triangle = np.linalg.qr(inverse @ leading)
    project = triangle @ leading.T @ root
    down = np.empty((rank, table.shape[0]))
    for rows, block in blocks(table):
        down[:, rows] = project @ block.T
    return balanced_table(Factors(up=up, down=down))


def table_energies(table: Table, counts: NDArray[Any], curvature: Matrix | None = None) -> Matrix:
    """Energy of the looked-up vectors that each further rank keeps, largest first.

    Args:
        table: ``[vocabulary, dim]``.
        counts: ``[vocabulary]``, as for ``factor_table``.
        curvature: Likewise.

    Returns:
        ``[min(vocabulary, dim)]``. Without curvature the sum is ``Σ count · ‖row‖²``, and the tail beyond
        rank r is the squared error of ``factor_table`` at rank r.

    Raises:
        ValueError: The counts do not fit the table.
    """
    root, _ = _roots(table, curvature)
    values, _ = eigen(root @ weighted_gram(table, row_weights(table, counts)) @ root)
    return values[: min(table.shape)]


def _roots(table: Table, curvature: Matrix | None) -> tuple[Matrix, Matrix]:
    identity = np.eye(table.shape[1])
    return (identity, identity) if curvature is None else roots(curvature)


def row_weights(table: Table, counts: NDArray[Any]) -> Matrix:
    """What each row counts, ``[vocabulary]``: its count, or ``UNSEEN_COUNT`` when that is less.

    Raises:
        ValueError: There is not one count for each row, or one is negative or not finite.
    """
    weights = np.asarray(counts, dtype=np.float64)
    if weights.shape != table.shape[:1]:
        raise ValueError(f"counts of shape {weights.shape} for a table of shape {table.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("a count is negative or not finite")
    return np.maximum(weights, UNSEEN_COUNT)


def weighted_gram(table: Table, weights: Matrix) -> Matrix:
    """``Σ weight · row rowᵀ`` in fp64, ``[dim, dim]``.

    Args:
        table: ``[vocabulary, dim]``.
        weights: ``[vocabulary]``, none negative.
    """
    gram = np.zeros((table.shape[1], table.shape[1]))
    for rows, block in blocks(table):
        scaled = block * np.sqrt(weights[rows])[:, None]
        gram += scaled.T @ scaled  # numpy sees the transpose and computes only one triangle
    return gram


def balanced_table(factors: Factors) -> Factors:
    """The same product with √σ on both sides, as ``svd.balanced``, by a ``[rank, rank]`` eigenproblem.

    Args:
        factors: ``up [dim, rank]`` with orthonormal columns; ``down [rank, vocabulary]``, which is turned in
            place: of a catalog of millions it is most of what is in memory.
    """
    squares, left = np.linalg.eigh(factors.down @ factors.down.T)
    values = np.sqrt(np.clip(squares[::-1], 0.0, None))
    left = left[:, ::-1]
    # The square root of an eigenvalue is exact to 1e-8 of the largest only. It is divided out again, so any
    # positive number does; where all are zero, so is the product.
    root = np.sqrt(np.maximum(values, 1e-8 * values[0]) if values[0] > 0 else np.ones_like(values))
    turn, down = (left / root).T, factors.down
    for start in range(0, down.shape[1], _ROWS):
        down[:, start : start + _ROWS] = turn @ down[:, start : start + _ROWS]
    return Factors(up=(factors.up @ left) * root, down=down)


def blocks(table: Table) -> Iterator[tuple[slice, Matrix]]:
    """The rows of a table in fp64, a block at a time, with where they are."""
    for start in range(0, table.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        yield rows, table[rows].astype(np.float64)


def check_rank(table: Table, rank: int) -> None:
    """Check that a table has factors of a rank.

    Raises:
        ValueError: It has not.
    """
    if not 1 <= rank <= min(table.shape):
        raise ValueError(f"rank {rank} is outside 1 to {min(table.shape)} for a table of shape {table.shape}")
