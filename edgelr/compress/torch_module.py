"""Carry out a plan in a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from edgelr.artifacts import Factored, Plan, Source, Survey
from edgelr.compress.refine import refine
from edgelr.lowrank.checkpoint import save_factored
from edgelr.lowrank.conv import LowRankConv
from edgelr.lowrank.embedding import LowRankEmbedding, LowRankHead
from edgelr.lowrank.layers import IntoHeads, LowRankLinear, OutOfHeads
from edgelr.lowrank.reduce import reduce_sites
from edgelr.lowrank.statistics import open_statistics
from edgelr.progress import Progress
from edgelr.recipe.schema import Factors, Recipe
from edgelr.structure import Reduction
from edgelr.tasks.task import get_task, load_student, reading_of

_BATCH = 32


def compress_task(
    source: Source, survey: Survey, plan: Plan, recipe: Recipe, folder: Path, progress: Progress
) -> Factored:
    """See ``stage.compress``."""
    settings = recipe.compress
    model = compressed(source, survey, plan.reductions, recipe, progress)
    method = f"{settings.factors}, refined" if settings.refine else settings.factors
    return save_factored(model, folder, reductions=plan.reductions, method=method)


def compressed(
    source: Source, survey: Survey, reductions: Sequence[Reduction], recipe: Recipe, progress: Progress
) -> nn.Module:
    """The dense model with reductions carried out, in memory.

    Args:
        source: The dense model and its calibration data.
        survey: Statistics and sensitivities.
        reductions: What to do; no two of them name the same site.
        recipe: Its task and its section ``compress`` are used.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: The model cannot be loaded.
        DataError: Activations of the compressed model are not finite, when it is refined.
    """
    task, settings = get_task(recipe.task.type), recipe.compress
    reading = reading_of(source, recipe.task)
    model = load_student(task, reading)
    compress_module(model, survey, reductions, settings.factors, progress)
    if settings.refine and reductions:
        examples = source.examples("calibration", task.EXAMPLE)
        batches = task.example_batches(reading, examples, _BATCH)
        dense = load_student(task, reading)
        refine_module(
            model, dense, survey, batches, lambda model, batch: task.run(model, dict(batch)), progress
        )
    return model


def emphasis_of(survey: Survey) -> dict[str, float]:
    """Site -> what a unit of its error counts, for layers that share ``down``."""
    return {site.name: site.sensitivity.slope or 1.0 for site in survey.sites}


def compress_module(
    model: nn.Module, survey: Survey, reductions: Sequence[Reduction], method: Factors, progress: Progress
) -> None:
    """Carry out reductions on a torch module, in place.

    Args:
        model: The model that was surveyed.
        survey: Its statistics and sensitivities.
        reductions: What to do; no two of them name the same site.
        method: How factors are chosen.
        progress: Where to show how far it is.
    """
    emphasis = emphasis_of(survey)
    with open_statistics(survey, method) as statistics, progress.bar("factoring", len(reductions)) as advance:
        for reduction in reductions:
            reduce_sites(model, reduction, statistics, method, emphasis)
            advance(note=reduction.sites[0])
    reduced = (LowRankLinear, LowRankConv, LowRankEmbedding, LowRankHead, IntoHeads, OutOfHeads)
    written = {id(module) for module in model.modules() if isinstance(module, reduced)}
    names = [name for reduction in reductions for name in (*reduction.sites, *reduction.shared)]
    planned = {id(model.get_submodule(name)) for name in names}
    assert written == planned, f"{len(planned)} layers were planned, {len(written)} were written"


def refine_module(
    model: nn.Module,
    dense: nn.Module,
    survey: Survey,
    batches: Sequence[Mapping[str, Tensor]],
    run: Callable[[nn.Module, Mapping[str, Tensor]], object],
    progress: Progress,
) -> None:
    """Fit the layers of a compressed model anew, in place; see ``refine``."""
    # A weight that several modules share would be fitted to what one of them reads.
    inputs = {site.name: site.inputs for site in survey.sites if not site.shared}
    with open_statistics(survey) as statistics:
        own = replace(statistics, inputs=inputs)
        refine(model, dense, own, emphasis_of(survey), batches, run, progress)
