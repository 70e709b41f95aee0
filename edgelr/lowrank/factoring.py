"""The factors of one site, whatever its kind: what is minimised, and by which statistics.

=====================  =====================================  =========================================
site                   its inputs                             known of them
=====================  =====================================  =========================================
linear                 vectors                                Gram matrix
convolution            patches: many and large                Gram matrix of its *outputs*, which is enough
convolution, spatial   columns of patches                     Gram matrix
embedding              one-hot vectors                        how often each token came
tied embedding         these, and hidden states of the head   both
=====================  =====================================  =========================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from edgelr.lowrank.bases import Basis, Layer, factors_from, find_basis, is_large
from edgelr.lowrank.conv_cost import Form
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.svd import (
    Decomposition,
    Factors,
    Joint,
    Matrix,
    decompose,
    decompose_jointly,
    decompose_outputs,
    spectrum,
)
from edgelr.lowrank.table import factor_table, table_energies
from edgelr.lowrank.tied import factor_tied, tied_energies
from edgelr.lowrank.weight import Weight
from edgelr.recipe.schema import Factors as Method
from edgelr.structure import Reduction


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """What a survey keeps of one decomposition.

    Attributes:
        energies: Energy that each further rank keeps, largest first, ``[full]``; of layers that share
            ``down`` ``[members, full]``.
        basis: Of a large matrix: what its factors follow from; see ``lowrank.bases``.
    """

    energies: Matrix
    basis: Basis | None = None


def spectrum_of(weight: Weight, reduction: Reduction, statistics: Statistics, method: Method) -> Spectrum:
    """Energies of one layer, and its basis where it is large.

    Args:
        weight: Of the dense layer.
        reduction: ``low-rank`` or ``spatial``, of that layer; its rank does not matter.
        statistics: Of the layer.
        method: How factors are chosen.
    """
    name = reduction.sites[0]
    if weight.kind == "conv":
        found = decomposition(weight, name, statistics, method, conv_form(reduction))
        return Spectrum(energies=found.energies)
    curvature = _curvature(name, statistics, method)
    if weight.kind == "embedding":
        table, counts = weight.values, _counts(weight, name, statistics, method)
        if (head := _head(weight, name, statistics, method)) is not None:
            return Spectrum(energies=tied_energies(table, counts, head))
        return Spectrum(energies=table_energies(table, counts, curvature))
    matrix = weight.matrix()
    if method == "plain":
        return Spectrum(energies=spectrum(matrix))
    if is_large([matrix]):
        large = find_basis([Layer(weight=matrix, curvature=curvature)], statistics.fitted([name]))
        return Spectrum(energies=large.energies[0], basis=large.basis)
    return Spectrum(energies=spectrum(matrix, statistics.fitted([name]), curvature))


def factors_of(weight: Weight, reduction: Reduction, statistics: Statistics, method: Method) -> Factors:
    """The factors of one rank, balanced, of ``weight.matrix(conv_form(reduction))``.

    Args:
        weight: Of the dense layer.
        reduction: ``low-rank`` or ``spatial``, of that layer.
        statistics: Of the layer.
        method: How factors are chosen.

    Raises:
        ValueError: The rank is out of range.
    """
    name, rank = reduction.sites[0], reduction.rank
    if weight.kind != "embedding":
        if (basis := statistics.bases.get(reduction.spectrum)) is not None:
            layer = Layer(weight=weight.matrix(), curvature=_curvature(name, statistics, method))
            return factors_from([layer], basis, rank)
        found = decomposition(weight, name, statistics, method, conv_form(reduction), rank)
        return found.truncated(rank)
    table, counts = weight.values, _counts(weight, name, statistics, method)
    head = _head(weight, name, statistics, method)
    if head is None:
        return factor_table(table, counts, rank, _curvature(name, statistics, method))
    return factor_tied(table, counts, head, rank)


def joint_spectrum(
    weights: Sequence[Weight],
    names: Sequence[str],
    statistics: Statistics,
    method: Method,
    emphasis: Mapping[str, float],
) -> Spectrum:
    """Energies of layers that share ``down``, and the basis where they are large.

    Args:
        weights: Of the dense layers.
        names: Their sites.
        statistics: Of these.
        method: How factors are chosen.
        emphasis: Site -> what a unit of its error counts.
    """
    members = _members(weights, names, statistics, method, emphasis)
    if is_large([member.weight for member in members]):
        found = find_basis(members, statistics.fitted(names))
        return Spectrum(energies=found.energies, basis=found.basis)
    return Spectrum(energies=_jointly(members, statistics.fitted(names)).energies)


def joint_factors(
    weights: Sequence[Weight],
    reduction: Reduction,
    statistics: Statistics,
    method: Method,
    emphasis: Mapping[str, float],
) -> Factors:
    """The factors of layers that share ``down``, balanced; ``up`` of one below that of the other.

    Args:
        weights: Of the dense layers.
        reduction: ``joint``, of these layers.
        statistics: Of these.
        method: How factors are chosen.
        emphasis: Site -> what a unit of its error counts.

    Raises:
        ValueError: The rank is out of range.
    """
    names = reduction.sites
    members = _members(weights, names, statistics, method, emphasis)
    if (basis := statistics.bases.get(reduction.spectrum)) is not None:
        return factors_from(members, basis, reduction.rank)
    return _jointly(members, statistics.fitted(names)).decomposition.truncated(reduction.rank)


def _jointly(members: Sequence[Layer], gram: Matrix) -> Joint:
    curvatures = [member.curvature for member in members if member.curvature is not None]
    weights, emphasis = [member.weight for member in members], [member.emphasis for member in members]
    return decompose_jointly(weights, gram, curvatures or None, emphasis)


def _members(
    weights: Sequence[Weight],
    names: Sequence[str],
    statistics: Statistics,
    method: Method,
    emphasis: Mapping[str, float],
) -> list[Layer]:
    curvatures = {name: _curvature(name, statistics, method) for name in names}
    known = all(curvature is not None for curvature in curvatures.values())
    return [
        Layer(weight=weight.matrix(), curvature=curvatures[name] if known else None, emphasis=emphasis[name])
        for weight, name in zip(weights, names, strict=True)
    ]


def decomposition(
    weight: Weight,
    name: str,
    statistics: Statistics,
    method: Method,
    form: Form = "channel",
    rank: int | None = None,
) -> Decomposition:
    """The factors of every rank of one layer that is no embedding.

    The spatial form of a convolution sums over the shifts along the width as if they were independent; on
    images whose neighbours are alike in both directions the energies that follow are right within percents.

    Args:
        weight: Of the dense layer.
        name: Its site.
        statistics: Of the site.
        method: How factors are chosen.
        form: Of convolutions: ``channel`` or ``spatial``.
        rank: The largest rank that is wanted, where that saves time; all when None.
    """
    matrix, curvature = weight.matrix(form), _curvature(name, statistics, method)
    match method:
        case "plain":
            return decompose(matrix)
        case "whitened" | "kronecker":
            if weight.kind != "conv":
                return decompose(matrix, statistics.fitted([name]), curvature, rank)
            if form == "channel":
                return decompose_outputs(matrix, statistics.outputs[name], curvature)
            width = np.eye(weight.kernel[-1])
            each = None if curvature is None else np.kron(curvature, width).astype(np.float64)
            return decompose(matrix, statistics.columns[name], each)
        case _:
            assert_never(method)


def conv_form(reduction: Reduction) -> Form:
    """In which form a reduction factors a convolution; of other layers ``channel``."""
    return "spatial" if reduction.form == "spatial" else "channel"


def _curvature(name: str, statistics: Statistics, method: Method) -> Matrix | None:
    return statistics.curvature(name) if method == "kronecker" else None


def _counts(weight: Weight, name: str, statistics: Statistics, method: Method) -> Matrix:
    return np.ones(len(weight.values)) if method == "plain" else statistics.counts[name]


def _head(weight: Weight, name: str, statistics: Statistics, method: Method) -> Matrix | None:
    """What is known of the inputs of the head that shares the table; None without a head."""
    known = statistics.heads.get(name)
    return np.eye(weight.values.shape[1]) if known is not None and method == "plain" else known
