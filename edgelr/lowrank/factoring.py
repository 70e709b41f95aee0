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
from typing import assert_never, cast

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.lowrank.bases import Basis, Layer, factors_from, find_basis, is_large
from edgelr.lowrank.conv import Conv
from edgelr.lowrank.conv_cost import Form
from edgelr.lowrank.kinds import matrix_of
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
from edgelr.lowrank.table import Table, factor_table, table_energies
from edgelr.lowrank.tied import factor_tied, tied_energies
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


def spectrum_of(module: nn.Module, reduction: Reduction, statistics: Statistics, method: Method) -> Spectrum:
    """Energies of one layer, and its basis where it is large.

    Args:
        module: The dense layer.
        reduction: ``low-rank`` or ``spatial``, of that layer; its rank does not matter.
        statistics: Of the layer.
        method: How factors are chosen.
    """
    name = reduction.sites[0]
    if isinstance(module, Conv):
        found = decomposition(module, name, statistics, method, conv_form(reduction))
        return Spectrum(energies=found.energies)
    curvature = _curvature(name, statistics, method)
    if isinstance(module, nn.Embedding):
        table, counts = _table(module), _counts(module, name, statistics, method)
        if (head := _head(module, name, statistics, method)) is not None:
            return Spectrum(energies=tied_energies(table, counts, head))
        return Spectrum(energies=table_energies(table, counts, curvature))
    weight = matrix(module)
    if method == "plain":
        return Spectrum(energies=spectrum(weight))
    if is_large([weight]):
        large = find_basis([Layer(weight=weight, curvature=curvature)], statistics.fitted([name]))
        return Spectrum(energies=large.energies[0], basis=large.basis)
    return Spectrum(energies=spectrum(weight, statistics.fitted([name]), curvature))


def factors_of(module: nn.Module, reduction: Reduction, statistics: Statistics, method: Method) -> Factors:
    """The factors of one rank, balanced, of ``kinds.matrix_of(module, conv_form(reduction))``.

    Args:
        module: The dense layer.
        reduction: ``low-rank`` or ``spatial``, of that layer.
        statistics: Of the layer.
        method: How factors are chosen.

    Raises:
        ValueError: The rank is out of range.
    """
    name, rank = reduction.sites[0], reduction.rank
    if not isinstance(module, nn.Embedding):
        if (basis := statistics.bases.get(reduction.spectrum)) is not None:
            layer = Layer(weight=matrix(module), curvature=_curvature(name, statistics, method))
            return factors_from([layer], basis, rank)
        found = decomposition(module, name, statistics, method, conv_form(reduction), rank)
        return found.truncated(rank)
    table, counts = _table(module), _counts(module, name, statistics, method)
    head = _head(module, name, statistics, method)
    if head is None:
        return factor_table(table, counts, rank, _curvature(name, statistics, method))
    return factor_tied(table, counts, head, rank)


def joint_spectrum(
    layers: Sequence[nn.Module],
    names: Sequence[str],
    statistics: Statistics,
    method: Method,
    emphasis: Mapping[str, float],
) -> Spectrum:
    """Energies of layers that share ``down``, and the basis where they are large.

    Args:
        layers: The dense layers.
        names: Their sites.
        statistics: Of these.
        method: How factors are chosen.
        emphasis: Site -> what a unit of its error counts.
    """
    members = _members(layers, names, statistics, method, emphasis)
    if is_large([member.weight for member in members]):
        found = find_basis(members, statistics.fitted(names))
        return Spectrum(energies=found.energies, basis=found.basis)
    return Spectrum(energies=_jointly(members, statistics.fitted(names)).energies)


def joint_factors(
    layers: Sequence[nn.Module],
    reduction: Reduction,
    statistics: Statistics,
    method: Method,
    emphasis: Mapping[str, float],
) -> Factors:
    """The factors of layers that share ``down``, balanced; ``up`` of one below that of the other.

    Args:
        layers: The dense layers.
        reduction: ``joint``, of these layers.
        statistics: Of these.
        method: How factors are chosen.
        emphasis: Site -> what a unit of its error counts.

    Raises:
        ValueError: The rank is out of range.
    """
    names = reduction.sites
    members = _members(layers, names, statistics, method, emphasis)
    if (basis := statistics.bases.get(reduction.spectrum)) is not None:
        return factors_from(members, basis, reduction.rank)
    return _jointly(members, statistics.fitted(names)).decomposition.truncated(reduction.rank)


def _jointly(members: Sequence[Layer], gram: Matrix) -> Joint:
    curvatures = [member.curvature for member in members if member.curvature is not None]
    weights, emphasis = [member.weight for member in members], [member.emphasis for member in members]
    return decompose_jointly(weights, gram, curvatures or None, emphasis)


def _members(
    layers: Sequence[nn.Module],
    names: Sequence[str],
    statistics: Statistics,
    method: Method,
    emphasis: Mapping[str, float],
) -> list[Layer]:
    curvatures = {name: _curvature(name, statistics, method) for name in names}
    known = all(curvature is not None for curvature in curvatures.values())
    return [
        Layer(weight=matrix(layer), curvature=curvatures[name] if known else None, emphasis=emphasis[name])
        for layer, name in zip(layers, names, strict=True)
    ]


def decomposition(
    layer: nn.Module,
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
        layer: The dense layer.
        name: Its site.
        statistics: Of the site.
        method: How factors are chosen.
        form: Of convolutions: ``channel`` or ``spatial``.
        rank: The largest rank that is wanted, where that saves time; all when None.
    """
    weight, curvature = matrix(layer, form), _curvature(name, statistics, method)
    match method:
        case "plain":
            return decompose(weight)
        case "whitened" | "kronecker":
            if not isinstance(layer, Conv):
                return decompose(weight, statistics.fitted([name]), curvature, rank)
            if form == "channel":
                return decompose_outputs(weight, statistics.outputs[name], curvature)
            width = np.eye(layer.kernel_size[-1])
            each = None if curvature is None else np.kron(curvature, width).astype(np.float64)
            return decompose(weight, statistics.columns[name], each)
        case _:
            assert_never(method)


def matrix(layer: nn.Module, form: Form = "channel") -> Matrix:
    """A layer's matrix ``[out, in]`` in fp64."""
    return matrix_of(layer, form).double().cpu().numpy()


def conv_form(reduction: Reduction) -> Form:
    """In which form a reduction factors a convolution; of other layers ``channel``."""
    return "spatial" if reduction.form == "spatial" else "channel"


def _curvature(name: str, statistics: Statistics, method: Method) -> Matrix | None:
    return statistics.curvature(name) if method == "kronecker" else None


def _table(module: nn.Embedding) -> Table:
    """The table, without a copy where numpy knows its type."""
    weight: Tensor = module.weight.detach().cpu()
    known = weight.dtype in (torch.float32, torch.float64)
    return cast(Table, (weight if known else weight.float()).numpy())


def _counts(module: nn.Embedding, name: str, statistics: Statistics, method: Method) -> Matrix:
    return np.ones(module.num_embeddings) if method == "plain" else statistics.counts[name]


def _head(module: nn.Embedding, name: str, statistics: Statistics, method: Method) -> Matrix | None:
    """What is known of the inputs of the head that shares the table; None without a head."""
    known = statistics.heads.get(name)
    return np.eye(module.embedding_dim) if known is not None and method == "plain" else known
