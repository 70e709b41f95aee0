"""Stage compress: Source + Survey + Plan -> Factored."""

from __future__ import annotations

from pathlib import Path

from edgelr.artifacts import Factored, Plan, Source, Survey
from edgelr.progress import Progress
from edgelr.recipe.schema import Recipe
from edgelr.recipe.tasks import OnnxGraph


def compress(
    source: Source, survey: Survey, plan: Plan, recipe: Recipe, folder: Path, progress: Progress
) -> Factored:
    """Carry out the plan on the dense model.

    Args:
        source: The dense model and its calibration data.
        survey: Statistics and sensitivities.
        plan: What to do.
        recipe: Its task, which decides the form of the model, and its section ``compress`` are used.
        folder: Where the compressed model is written.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: The model cannot be loaded.
        DataError: Activations of the compressed model are not finite, when it is refined.
    """
    if isinstance(recipe.task, OnnxGraph):
        from edgelr.compress.onnx_graph import compress_graph

        return compress_graph(source.model_folder, survey, plan.reductions, folder, progress)
    from edgelr.compress.torch_module import compress_task

    return compress_task(source, survey, plan, recipe, folder, progress)
