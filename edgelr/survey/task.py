"""Survey of the torch model of a task."""

from __future__ import annotations

from pathlib import Path

from edgelr.artifacts import Source, Survey
from edgelr.examples import spread
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.recipe.tasks import Recognize, TaskSettings
from edgelr.survey.statistics import MASK
from edgelr.survey.subject import Subject
from edgelr.survey.torch_module import survey_module
from edgelr.tasks.task import Batch, get_task, load_student, reading_of

_BATCH = 32


def survey_task(
    source: Source, settings: TaskSettings, compress: Compress, folder: Path, progress: Progress
) -> Survey:
    """See ``stage.survey``."""
    task, reading = get_task(settings.type), reading_of(source, settings)
    model = load_student(task, reading).requires_grad_(False)
    task.check_reach(model, reading)
    examples = source.examples("calibration", task.EXAMPLE)
    few = spread(examples, compress.calibration.sensitivity_examples)
    batches, probes = (task.example_batches(reading, chosen, _BATCH) for chosen in (examples, few))
    subject = Subject(
        model=model,
        batches=batches,
        few=probes,
        run=lambda model, batch: task.run(model, dict(batch)).result,
        distance=task.distance,
        probe=task.probe,
        heads=task.SHRINKS_HEADS,
        unit=_unit(settings, batches[0]),
    )
    return survey_module(subject, compress, folder, progress)


def _unit(settings: TaskSettings, batch: Batch) -> str:
    """What ``gather`` counts by: a Whisper has no mask, and reads a whole window whatever is in it."""
    if isinstance(settings, Recognize):
        return "position of the encoder" if MASK in batch else "window and its transcript"
    return "token" if MASK in batch else "example"
