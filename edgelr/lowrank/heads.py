"""Attention heads with fewer channels: query with key, and value with output, truncated together.

Per head, attention computes with two products of matrices: the scores ``(W_q x_i + b_q)ᵀ (W_k x_j + b_k)``
see only ``W_qᵀ W_k``, and the head's contribution ``W_o (W_v z + b_v)`` sees only ``W_o W_v``. Each product
has the rank of the head's size; truncating it makes the *head* smaller: the same number of matrix
multiplications, fewer channels in all of them, less attention compute and a smaller cache of keys and values.

The key's bias adds the same to all scores of a query, which the softmax ignores; for the same reason keys are
measured by their covariance, without their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelr.lowrank.svd import FLOOR, Matrix, decompose, eigen


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A linear layer: ``weight [out, in]`` and ``bias [out]``."""

    weight: Matrix
    bias: Matrix


@dataclass(frozen=True, kw_only=True)
class NarrowHeads:
    """Two layers whose common channels, head by head, are fewer.

    Attributes:
        first: Query or value, ``weight [heads * size, in]``.
        second: Key, ``weight [heads * size, in]``, or output, ``weight [out, heads * size]``.
        energies: Squared error that each channel of a head adds when dropped, summed over the heads,
            ``[head_size]``, largest first.
    """

    first: Projection
    second: Projection
    energies: Matrix


def narrow_query_key(
    query: Projection,
    key: Projection,
    query_second_moment: Matrix,
    key_covariance: Matrix,
    heads: int,
    size: int,
) -> NarrowHeads:
    """Truncate ``W_qᵀ W_k`` of every head to ``size`` channels, with the least error of the scores.

    With A and B the queries and keys of the calibration tokens, it is the truncated SVD of ``A Bᵀ``, found
    from their small Gram matrices: for roots ``R_aᵀ R_a = Aᵀ A`` and ``R_b`` alike, the SVD of ``R_a R_bᵀ``.

    Args:
        query: ``weight [heads * head_size, in]``.
        key: Likewise.
        query_second_moment: ``Σ q qᵀ`` of the queries with their bias, ``[heads * head_size] * 2``.
        key_covariance: ``Σ k kᵀ`` of the keys less their mean, ``[heads * head_size] * 2``.
        heads: Number of heads.
        size: Channels to keep in each.
    """
    head_size = len(query.weight) // heads
    weights: tuple[list[Matrix], list[Matrix]] = ([], [])
    biases = []
    energies = np.zeros(head_size)
    for head in range(heads):
        rows = slice(head * head_size, (head + 1) * head_size)
        a, b = (_root(moment[rows, rows]) for moment in (query_second_moment, key_covariance))
        left, values, right = np.linalg.svd(a @ b.T)
        energies += values**2
        scale = _inverse_roots(values)[:size, None]
        to_query = scale * (right[:size] @ b)  # [size, head_size]
        to_key = scale * (left[:, :size].T @ a)
        weights[0].append(to_query @ query.weight[rows])
        weights[1].append(to_key @ key.weight[rows])
        biases.append(to_query @ query.bias[rows])
    return NarrowHeads(
        first=Projection(weight=np.concatenate(weights[0]), bias=np.concatenate(biases)),
        second=Projection(weight=np.concatenate(weights[1]), bias=np.zeros(heads * size)),
        energies=energies,
    )


def narrow_value_output(
    value: Projection,
    output: Projection,
    context_gram: Matrix,
    curvature: Matrix | None,
    heads: int,
    size: int,
) -> NarrowHeads:
    """Truncate ``W_o W_v`` of every head to ``size`` channels, with the least error of the output.

    Each head keeps the principal components of its contribution; then the output weights of all heads
    together are fitted anew to the channels that are left (least squares).

    Args:
        value: ``weight [heads * head_size, in]``.
        output: ``weight [out, heads * head_size]``.
        context_gram: ``Σ c cᵀ`` of the output layer's inputs, ``[heads * head_size] * 2``.
        curvature: Of the model's output at the output layer, ``[out, out]``; the identity when None.
        heads: Number of heads.
        size: Channels to keep in each.
    """
    head_size = len(value.weight) // heads
    keep = np.zeros((heads * size, heads * head_size))
    energies = np.zeros(head_size)
    for head in range(heads):
        rows = slice(head * head_size, (head + 1) * head_size)
        found = decompose(output.weight[:, rows], context_gram[rows, rows], curvature)
        energies += found.energies
        keep[head * size : (head + 1) * size, rows] = np.linalg.qr(found.down[:size].T)[0].T
    # The floor holds on to the output weights as they are: at full size they come back exactly.
    lifted = context_gram + FLOOR**2 * np.trace(context_gram) / len(context_gram) * np.eye(len(context_gram))
    fitted = np.linalg.lstsq(keep @ lifted @ keep.T, keep @ lifted @ output.weight.T, rcond=None)[0]
    return NarrowHeads(
        first=Projection(weight=keep @ value.weight, bias=keep @ value.bias),
        second=Projection(weight=fitted.T, bias=output.bias),
        energies=energies,
    )


def _inverse_roots(values: Matrix) -> Matrix:
    """1/√ of singular values; 0 for those that are nothing but rounding."""
    sound = values > values.max(initial=0.0) * 1e-12
    return np.where(sound, 1 / np.sqrt(np.where(sound, values, 1.0)), 0.0)


def _root(matrix: Matrix) -> Matrix:
    """R with ``Rᵀ R = matrix``."""
    energies, vectors = eigen(matrix)
    return np.asarray(np.sqrt(energies)[:, None] * vectors.T, np.float64)
