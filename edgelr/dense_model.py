"""The dense model of a recipe that brings none: trained before all stages of ``stages.py``, and stored so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgelr.data_identity import data_digest, data_libraries, model_libraries
from edgelr.errors import UsageError
from edgelr.job import Depends, Job, run_stage
from edgelr.load.model_folder import find_model, fingerprint
from edgelr.recipe.load import fault
from edgelr.recipe.schema import Model, TrainClassifier


def train(job: Job) -> Job:
    """Recipe -> the job with its dense model; the same job when the recipe names a trained one."""
    settings = job.recipe.model.train
    if settings is None:
        return job
    begins = _encoder(job)
    more = {} if begins is None else {"encoder": fingerprint(begins)}
    # What is trained on is what the other splits leave of the texts.
    left_by = {} if begins is None else {"calibration": job.recipe.compress.calibration.examples}

    def make(folder: Path, _: Path) -> None:
        from edgelr.load.stage import train

        train(job.recipe, job.recipe_path.parent, begins or Path(), folder / "model", job.progress)

    made = run_stage(
        job,
        "train",
        f"the dense model, {settings.type}",
        Depends(
            inputs=data_digest(job.recipe.task, job.recipe_path) | more,
            settings={
                "task": job.recipe.task.model_dump(mode="json"),
                "train": settings.model_dump(mode="json"),
                "seed": job.recipe.seed,
                **left_by,
            },
            libraries=("numpy", *model_libraries(job.recipe.task), *data_libraries(job.recipe.task)),
        ),
        make=make,
        read=lambda folder: folder / "model",
    )
    return replace(job, model_folder=made.artifact, model_fingerprint=fingerprint(made.artifact))


def _encoder(job: Job) -> Path | None:
    """Where the model is that a classifier starts from; None of a model that starts from nothing."""
    settings = job.recipe.model.train
    if not isinstance(settings, TrainClassifier):
        return None
    place = Model.model_validate({"path": settings.path, "package": settings.package})
    try:
        return find_model(place, job.recipe_path.parent)
    except UsageError as error:
        key = "model.train.path"
        raise fault(job.recipe_path, key, error.found.removeprefix("model.path: ")) from error
