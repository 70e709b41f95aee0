"""Stage compress: Source + Survey + Plan -> Factored."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

import numpy as np
from torch import nn

from edgelr.artifacts import Factored, Plan, Source, Survey
from edgelr.lowrank.checkpoint import save_factored
from edgelr.lowrank.layers import LowRankLinear, low_rank_linear, replace_module
from edgelr.lowrank.svd import Factors as FactorPair
from edgelr.lowrank.svd import Matrix, plain_factors, whitened_factors
from edgelr.progress import Progress
from edgelr.recipe.schema import Factors
from edgelr.tasks.task import get_task


def compress(
    source: Source,
    survey: Survey,
    plan: Plan,
    task_type: str,
    method: Factors,
    folder: Path,
    progress: Progress,
) -> Factored:
    """Replace every planned linear layer by its two factors.

    Raises:
        UnsupportedModelError: The model cannot be loaded.
    """
    model = get_task(task_type).load_model(source.model_folder)
    inputs = {site.name: site.inputs for site in survey.sites}
    ranks = plan.ranks
    with (
        np.load(survey.folder / "statistics.npz", allow_pickle=False) as grams,
        progress.bar("factoring", len(ranks)) as advance,
    ):
        for name, rank in ranks.items():
            factor_site(model, name, rank, method, grams[inputs[name]])
            advance(note=name)
    written = sum(isinstance(module, LowRankLinear) for module in model.modules())
    assert written == len(ranks), f"{len(ranks)} sites were planned, {written} layers were factored"
    return save_factored(model, folder, ranks=ranks, method=method)


def factor_site(model: nn.Module, name: str, rank: int, method: Factors, gram: Matrix) -> None:
    """Replace the linear layer ``name`` of ``model``, in place.

    Args:
        model: The model to change.
        name: Dotted path of the layer.
        rank: Inner dimension.
        method: ``plain`` or ``whitened``.
        gram: ``Σ x xᵀ`` of the layer's input, ``[in, in]``.
    """
    dense = model.get_submodule(name)
    assert isinstance(dense, nn.Linear), f"{name} is {type(dense).__name__}"
    weight = dense.weight.detach().double().cpu().numpy()
    replace_module(model, name, low_rank_linear(dense, factor(weight, gram, rank, method)))


def factor(weight: Matrix, gram: Matrix, rank: int, method: Factors) -> FactorPair:
    """Factor one weight ``[out, in]`` by the recipe's method."""
    match method:
        case "plain":
            return plain_factors(weight, rank)
        case "whitened":
            return whitened_factors(weight, gram, rank)
        case _:
            assert_never(method)
