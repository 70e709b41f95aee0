"""Factors with an identity inside: the same product with ``rank²`` fewer numbers.

Between the factors of ``up [out, rank] @ down [rank, in]`` any invertible ``[rank, rank]`` matrix may stand.
With the inverse of ``rank`` rows of ``up`` there, these rows become the identity and need not be stored:

    ``up[rows] @ down``             is  ``down'``         ``[rank, in]``, rows of the product itself
    ``up[others] @ up[rows]⁻¹``     is  ``rest``          ``[out - rank, rank]``
    ``y[rows] = down' x``   and     ``y[others] = rest (down' x)``

Nothing is lost but rounding, which grows with the largest number of ``rest``: so the rows are to be far from
dependent. Columns of ``down`` are pivoted by the transposes of all of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelr.lowrank.svd import Factors, Matrix


@dataclass(frozen=True, kw_only=True)
class Pivoted:
    """``product[rows] = down`` and ``product[others] = rest @ down``.

    Attributes:
        down: ``[rank, in]``, in the order of the rows that were chosen.
        rest: ``[out - rank, rank]``; the rows that were not chosen, in their order.
        growth: The largest absolute value of ``rest``; 0 when it is empty.
    """

    down: Matrix
    rest: Matrix
    growth: float


def pivot_rows(up: Matrix, among: Sequence[int] | None = None) -> list[int]:
    """Rows of ``up`` that are far from dependent: QR with column pivoting of its transpose.

    Each step takes the row that is farthest from the span of those before it. The bound of the growth is
    exponential in theory; in practice it stays near 1.

    Args:
        up: ``[out, rank]``.
        among: The rows to choose from, at least ``rank``; None for all.

    Returns:
        ``rank`` row numbers in rising order; arbitrary ones where ``up`` has no more independent rows.

    Raises:
        ValueError: There are fewer rows to choose from than ``rank``.

    Source:
        Businger and Golub, Linear least squares solutions by Householder transformations (1965).
    """
    candidates = np.arange(up.shape[0]) if among is None else np.asarray(among)
    rank = up.shape[1]
    if len(candidates) < rank:
        raise ValueError(f"{rank} pivots are needed, and there are {len(candidates)} rows to choose from")
    left = np.array(up[candidates], np.float64)
    chosen: list[int] = []
    for _ in range(rank):
        distances = np.linalg.norm(left, axis=1)
        distances[chosen] = -1.0
        best = int(distances.argmax())
        chosen.append(best)
        if distances[best] > 0:
            direction = left[best] / distances[best]
            for _ in range(2):  # once leaves a rounding error that adds up over the steps
                left -= np.outer(left @ direction, direction)
    return sorted(int(candidates[row]) for row in chosen)


def pivoted(factors: Factors, rows: Sequence[int]) -> Pivoted:
    """The same product, with the identity in place of the rows ``rows`` of ``up``.

    Args:
        factors: ``up [out, rank]`` and ``down [rank, in]``.
        rows: ``rank`` different rows of ``up``.

    Raises:
        ValueError: The number of rows is not the rank, or the rows are dependent.

    Source:
        Zhao et al., Pivoting Factorization: A Compact Meta Low-Rank Representation of Sparsity for Efficient
        Inference in Large Language Models (ICML 2025), section 3.
    """
    rank = factors.up.shape[1]
    if len(set(rows)) != rank:
        raise ValueError(f"{len(set(rows))} rows were chosen for rank {rank}")
    basis = factors.up[list(rows)]
    others = np.delete(factors.up, list(rows), axis=0)
    try:
        rest: Matrix = np.asarray(np.linalg.solve(basis.T, others.T).T, np.float64)
    except np.linalg.LinAlgError as error:
        raise ValueError("the chosen rows of up are dependent") from error
    growth = float(np.abs(rest).max(initial=0.0))
    return Pivoted(down=basis @ factors.down, rest=rest, growth=growth)
