"""Stage survey: Source -> Survey."""

from __future__ import annotations

from pathlib import Path

from edgelr.artifacts import Source, Survey
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.survey.subject import Subject
from edgelr.survey.torch_module import survey_module
from edgelr.tasks.task import get_task

_BATCH = 32


def survey(
    source: Source, task_type: str, max_tokens: int, compress: Compress, folder: Path, progress: Progress
) -> Survey:
    """List the sites and groups; gather statistics, spectra and sensitivities.

    Args:
        source: The dense model and its data.
        task_type: The recipe's task.
        max_tokens: Longest text.
        compress: Which sites, and how many calibration examples.
        folder: Where the Survey is written.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: No layer can be factored, or the weights are not finite.
        UsageError: The model cannot read texts of ``max_tokens``.
        DataError: Activations are not finite.
    """
    task = get_task(task_type)
    model = task.load_model(source.model_folder).requires_grad_(False)
    tokenizer = task.tokenizer_json(source.model_folder)
    task.check_reach(model, tokenizer, max_tokens)
    examples = source.examples("calibration")
    few = examples[: compress.calibration.sensitivity_examples]
    batches, probes = (
        task.batches(tokenizer, task.texts(chosen), max_tokens=max_tokens, size=_BATCH)
        for chosen in (examples, few)
    )
    subject = Subject(
        model=model,
        batches=batches,
        few=probes,
        run=lambda model, batch: task.run(model, dict(batch)).result,
        distance=task.distance,
        probe=task.probe,
    )
    return survey_module(subject, compress, folder, progress)
