"""The dense model of a recipe that brings none: trained before all stages of ``stages.py``, and stored so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgelr.data_identity import data_digest, data_libraries
from edgelr.job import Depends, Job, run_stage
from edgelr.load.model_folder import fingerprint


def train(job: Job) -> Job:
    """Recipe -> the job with its dense model; the same job when the recipe names a trained one."""
    settings = job.recipe.model.train
    if settings is None:
        return job

    def make(folder: Path, _: Path) -> None:
        from edgelr.load.stage import train

        train(job.recipe, job.recipe_path.parent, folder / "model", job.progress)

    made = run_stage(
        job,
        "train",
        f"the dense model, {settings.type}",
        Depends(
            inputs=data_digest(job.recipe.task, job.recipe_path),
            settings={
                "task": job.recipe.task.model_dump(mode="json"),
                "train": settings.model_dump(mode="json"),
                "seed": job.recipe.seed,
            },
            libraries=("numpy", "torch", *data_libraries(job.recipe.task)),
        ),
        make=make,
        read=lambda folder: folder / "model",
    )
    return replace(job, model_folder=made.artifact, model_fingerprint=fingerprint(made.artifact))
