"""Factors of a table that is both embedding and head: one pair of factors for two uses.

The embedding looks rows up, so rows weigh by their counts C. The head multiplies hidden states with all of
them (``logits = h tableᵀ``), so directions weigh by the hidden states' Gram matrix H. With
``table ≈ A Bᵀ`` (``down = Aᵀ``, ``up = B``) and D the difference, what is minimised is the sum of the two
relative errors,

    tr(Dᵀ C D) / tr(tableᵀ C table)  +  tr(D H Dᵀ) / tr(table H tableᵀ).

Each term alone is a principal component problem. The sum has no closed form (its weight is not one of rows
times one of columns), but it is quadratic in each factor alone. With ``A = table P`` all that is needed of
the table are two ``[dim, dim]`` Gram matrices, so alternating between B and P costs nothing that grows with
the vocabulary. Each step is the exact minimum and the start is a one-sided solution, so the result is never
worse than that. A last pass over the table gives every row its own best coordinates for the basis found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.lowrank.svd import Factors, Matrix
from edgelr.lowrank.table import Table, balanced_table, blocks, check_rank, row_weights, weighted_gram

_SMALLEST_GAIN = 1e-3  # of the error, in one sweep: after about five of them, and later ones gain no more
_NOISE = 1e-12  # directions with less than this of the largest eigenvalue are rounding


@dataclass(frozen=True, kw_only=True)
class TiedErrors:
    """Relative squared errors of a tied table's factors, each 0 (exact) to 1 (all is lost).

    Attributes:
        embedding: Of the looked-up vectors.
        head: Of the logits.
    """

    embedding: float
    head: float

    @property
    def total(self) -> float:
        """What ``factor_tied`` minimises."""
        return self.embedding + self.head


def factor_tied(
    table: Table, counts: NDArray[Any], head_gram: Matrix, rank: int, *, sweeps: int = 10
) -> Factors:
    """Factors that serve embedding and head: least sum of the two relative errors, balanced.

    Args:
        table: ``[vocabulary, dim]``, any floating type.
        counts: How often each token came, ``[vocabulary]``; see ``table.UNSEEN_COUNT``.
        head_gram: ``Σ h hᵀ`` over the hidden states that the head multiplies, ``[dim, dim]``.
        rank: 1 to ``min(vocabulary, dim)``.
        sweeps: Most alternations from each start.

    Returns:
        ``up [dim, rank]`` and ``down [rank, vocabulary]``: a local minimum of the sum, no worse than the best
        factors for the embedding alone or for the head alone.

    Raises:
        ValueError: ``rank`` is out of range, or counts or Gram matrix do not fit the table.
    """
    check_rank(table, rank)
    problem = _problem(table, counts, head_gram)
    found = [_descend(problem, start, sweeps) for start in _one_sided(problem, rank)]
    _, basis = min(found, key=lambda pair: pair[0])
    return balanced_table(_best_rows(problem, table, basis))


def tied_errors(table: Table, counts: NDArray[Any], head_gram: Matrix, factors: Factors) -> TiedErrors:
    """The two relative errors of any factors of a tied table.

    Args:
        table: ``[vocabulary, dim]``.
        counts: ``[vocabulary]``.
        head_gram: ``[dim, dim]``.
        factors: ``up [dim, rank]`` and ``down [rank, vocabulary]``.

    Raises:
        ValueError: Counts or Gram matrix do not fit the table.
    """
    weights = row_weights(table, counts)
    _check_gram(table, head_gram)
    lost, all_ = np.zeros(2), np.zeros(2)
    for rows, block in blocks(table):
        for sums, values in ((all_, block), (lost, block - factors.down[:, rows].T @ factors.up.T)):
            sums[0] += float(weights[rows] @ np.square(values).sum(axis=1))
            sums[1] += float(((values @ head_gram) * values).sum())
    embedding, head = np.divide(lost, all_, out=np.zeros(2), where=all_ > 0)
    return TiedErrors(embedding=float(embedding), head=float(head))


def tied_energies(table: Table, counts: NDArray[Any], head_gram: Matrix) -> Matrix:
    """Relative energy that each further rank keeps at most, summed over both uses, largest first.

    Args:
        table: ``[vocabulary, dim]``.
        counts: ``[vocabulary]``.
        head_gram: ``[dim, dim]``.

    Returns:
        ``[min(vocabulary, dim)]``. The sum is 2, and the tail beyond rank r is a lower bound of
        ``factor_tied``'s total at rank r: it is what the two uses would lose with factors of their own.

    Raises:
        ValueError: Counts or Gram matrix do not fit the table.
    """
    problem = _problem(table, counts, head_gram)
    root = _root(problem.every)
    sides = (problem.used, root @ problem.hidden @ root)
    values = sum(np.clip(np.linalg.eigvalsh((side + side.T) / 2)[::-1], 0.0, None) for side in sides)
    return np.asarray(values)[: min(table.shape)]


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """The sum of errors as ``tr((I - Q) used (I - Q)ᵀ) + tr(hidden (I - Q) every (I - Q)ᵀ)``, ``Q = B Pᵀ``.

    Attributes:
        weights: What each row counts in the embedding's relative error, ``[vocabulary]``.
        used: Gram matrix of the rows so weighted, ``[dim, dim]``.
        every: Gram matrix of all rows alike, ``[dim, dim]``.
        hidden: Gram matrix of the hidden states over the head's energy, ``[dim, dim]``.
    """

    weights: Matrix
    used: Matrix
    every: Matrix
    hidden: Matrix

    def value(self, basis: Matrix, coordinates: Matrix) -> float:
        rest = np.eye(len(basis)) - basis @ coordinates.T
        embedding = ((rest @ self.used) * rest).sum()
        return float(embedding + ((self.hidden @ rest) * (rest @ self.every)).sum())


def _problem(table: Table, counts: NDArray[Any], head_gram: Matrix) -> _Problem:
    _check_gram(table, head_gram)
    weights = row_weights(table, counts)
    used, every = weighted_gram(table, weights), weighted_gram(table, np.ones(len(table)))
    embedding, head = float(np.trace(used)), float((head_gram * every).sum())
    share = 1 / embedding if embedding > 0 else 0.0
    hidden = (head_gram + head_gram.T) / 2 * (1 / head if head > 0 else 0.0)
    return _Problem(weights=weights * share, used=used * share, every=every, hidden=hidden)


def _one_sided(problem: _Problem, rank: int) -> list[Matrix]:
    """Bases ``[dim, rank]`` of the factors that are best for the embedding alone, and for the head alone."""
    _, vectors = np.linalg.eigh(problem.used)
    root = _root(problem.every)
    _, outputs = np.linalg.eigh(root @ problem.hidden @ root)
    return [vectors[:, ::-1][:, :rank], root @ outputs[:, ::-1][:, :rank]]


def _descend(problem: _Problem, basis: Matrix, sweeps: int) -> tuple[float, Matrix]:
    """Alternate from a basis; the least value seen, and its basis."""
    pencil = _diagonalized(problem.used, problem.every)
    spectrum = np.linalg.eigh(problem.hidden)
    coordinates = _best_coordinates(problem, basis, pencil)
    best = problem.value(*coordinates)
    for _ in range(sweeps):
        basis = _best_basis(problem, coordinates[1], spectrum)
        moved = _best_coordinates(problem, basis, pencil)
        value = problem.value(*moved)
        if value > best * (1 - _SMALLEST_GAIN):
            break
        best, coordinates = value, moved
    return best, coordinates[0]


def _best_coordinates(problem: _Problem, basis: Matrix, pencil: _Pencil) -> tuple[Matrix, Matrix]:
    """An equal basis B, and the P that minimises: ``used P BᵀB + every P BᵀHB = (used + every H) B``."""
    basis, scales = _aligned(problem, basis)
    right = problem.used @ basis + problem.every @ (problem.hidden @ basis)
    divisor = pencil.first[:, None] + pencil.second[:, None] * scales
    return basis, pencil.vectors @ _divided(pencil.vectors.T @ right, divisor)


def _best_basis(problem: _Problem, coordinates: Matrix, spectrum: tuple[Matrix, Matrix]) -> Matrix:
    """The B that minimises: ``B (Pᵀ used P) + H B (Pᵀ every P) = (used + H every) P``."""
    used, every = problem.used @ coordinates, problem.every @ coordinates
    pencil = _diagonalized(coordinates.T @ used, coordinates.T @ every)
    scales, vectors = spectrum
    right = vectors.T @ (used + problem.hidden @ every) @ pencil.vectors
    divisor = pencil.first + scales[:, None] * pencil.second
    return vectors @ _divided(right, divisor) @ pencil.vectors.T


def _best_rows(problem: _Problem, table: Table, basis: Matrix) -> Factors:
    """Every row's own best coordinates: the weight of row v is ``count I + H``, diagonal in the basis."""
    basis, scales = _aligned(problem, basis)
    looked_up, multiplied = basis.T, basis.T @ problem.hidden
    down = np.empty((basis.shape[1], len(table)))
    for rows, block in blocks(table):
        weights = problem.weights[rows]
        right = (looked_up @ block.T) * weights + multiplied @ block.T
        down[:, rows] = _divided(right, weights + scales[:, None])
    return Factors(up=basis, down=down)


def _aligned(problem: _Problem, basis: Matrix) -> tuple[Matrix, Matrix]:
    """Another basis of the same space, orthonormal and with a diagonal ``BᵀHB``, and that diagonal."""
    basis, _ = np.linalg.qr(basis)
    scales, vectors = np.linalg.eigh(basis.T @ problem.hidden @ basis)
    return basis @ vectors, np.clip(scales, 0.0, None)


@dataclass(frozen=True, kw_only=True)
class _Pencil:
    """``vectorsᵀ M vectors = diag(first)`` and ``vectorsᵀ N vectors = diag(second)``."""

    vectors: Matrix
    first: Matrix
    second: Matrix


def _diagonalized(first: Matrix, second: Matrix) -> _Pencil:
    """Both of two positive semi-definite matrices diagonal at once, within the space of their sum."""
    scale = np.trace(first) / np.trace(second) if np.trace(second) > 0 else 1.0
    energies, space = np.linalg.eigh(first + scale * second)
    kept = energies > _NOISE * max(energies[-1], 0.0)  # what is left out is rounding, and would be divided by
    whitening = space[:, kept] / np.sqrt(energies[kept])
    values, vectors = np.linalg.eigh(whitening.T @ first @ whitening)
    vectors = whitening @ vectors
    seconds = (vectors * (second @ vectors)).sum(axis=0)
    return _Pencil(vectors=vectors, first=np.clip(values, 0.0, None), second=np.clip(seconds, 0.0, None))


def _root(matrix: Matrix) -> Matrix:
    """The root of a positive semi-definite matrix; directions of nothing stay nothing."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    kept = values > _NOISE * max(values[-1], 0.0)
    root: Matrix = (vectors[:, kept] * np.sqrt(values[kept])) @ vectors[:, kept].T
    return root


def _divided(numerator: Matrix, divisor: Matrix) -> Matrix:
    return np.divide(numerator, divisor, out=np.zeros_like(numerator), where=divisor > 0)


def _check_gram(table: Table, head_gram: Matrix) -> None:
    if head_gram.shape != (table.shape[1], table.shape[1]):
        raise ValueError(f"a Gram matrix of shape {head_gram.shape} for a table of shape {table.shape}")
