"""Stage survey: Source -> Survey."""

from __future__ import annotations

from pathlib import Path

from edgelr.artifacts import Source, Survey
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.recipe.tasks import OnnxGraph, TaskSettings


def survey(
    source: Source, settings: TaskSettings, compress: Compress, folder: Path, progress: Progress
) -> Survey:
    """List the sites and groups; gather statistics, spectra and sensitivities.

    Args:
        source: The dense model and its data.
        settings: The recipe's task; it decides which form the model has.
        compress: Which sites, and how many calibration examples.
        folder: Where the Survey is written.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: No layer can be factored, or the weights are not finite.
        UsageError: The model cannot read texts as long as the task's.
        DataError: Activations are not finite.
    """
    if isinstance(settings, OnnxGraph):
        from edgelr.survey.onnx_graph import survey_source

        return survey_source(source, compress, folder, progress)
    from edgelr.survey.task import survey_task

    return survey_task(source, settings, compress, folder, progress)
