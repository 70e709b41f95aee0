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

from typing import assert_never, cast

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.lowrank.conv import Conv
from edgelr.lowrank.conv_cost import Form
from edgelr.lowrank.kinds import matrix_of
from edgelr.lowrank.range_finder import leading, spectrum
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.svd import Decomposition, Factors, Matrix, decompose, decompose_outputs
from edgelr.lowrank.table import Table, factor_table, table_energies
from edgelr.lowrank.tied import factor_tied, tied_energies
from edgelr.recipe.schema import Factors as Method
from edgelr.structure import Reduction


def energies_of(module: nn.Module, reduction: Reduction, statistics: Statistics, method: Method) -> Matrix:
    """Energy that each further rank keeps, largest first.

    Args:
        module: The dense layer.
        reduction: ``low-rank`` or ``spatial``, of that layer; its rank does not matter.
        statistics: Of the layer.
        method: How factors are chosen.
    """
    name = reduction.sites[0]
    if isinstance(module, Conv):
        return decomposition(module, name, statistics, method, conv_form(reduction)).energies
    if not isinstance(module, nn.Embedding):
        gram = None if method == "plain" else statistics.gram(name)
        return spectrum(matrix(module), gram, _curvature(name, statistics, method))
    table, counts = _table(module), _counts(module, name, statistics, method)
    head = _head(module, name, statistics, method)
    if head is None:
        return table_energies(table, counts, _curvature(name, statistics, method))
    return tied_energies(table, counts, head)


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
        if (found := _leading(module, name, statistics, method, rank)) is None:
            found = decomposition(module, name, statistics, method, conv_form(reduction), rank)
        return found.truncated(rank)
    table, counts = _table(module), _counts(module, name, statistics, method)
    head = _head(module, name, statistics, method)
    if head is None:
        return factor_table(table, counts, rank, _curvature(name, statistics, method))
    return factor_tied(table, counts, head, rank)


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
                return decompose(weight, statistics.gram(name), curvature, rank)
            if form == "channel":
                return decompose_outputs(weight, statistics.outputs[name], curvature)
            width = np.eye(layer.kernel_size[-1])
            each = None if curvature is None else np.kron(curvature, width).astype(np.float64)
            return decompose(weight, statistics.columns[name], each)
        case _:
            assert_never(method)


def _leading(
    layer: nn.Module, name: str, statistics: Statistics, method: Method, rank: int
) -> Decomposition | None:
    """The factors of one rank of a large linear layer, where its spectrum is known and a short cut pays."""
    known = statistics.spectra.get(name)
    if known is None or method == "plain" or isinstance(layer, Conv):
        return None
    curvature = _curvature(name, statistics, method)
    return leading(matrix(layer), statistics.gram(name), curvature, rank, known)


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
