"""Each stage of a build: what its result depends on, and which function makes it.

What a stage depends on is its key in the store, so a build that changes one thing makes anew exactly what
that thing can change. The functions are imported only when something has to be made: a build that reuses
everything never loads torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifact_files import read_factored, read_plan, read_source, read_survey
from edgelr.artifacts import Factored, Package, Plan, Source, Survey
from edgelr.data_identity import data_digest, data_libraries, model_libraries, own_metric
from edgelr.errors import UsageError
from edgelr.job import Depends, Job, Made, run_stage
from edgelr.load.model_folder import card_license
from edgelr.recipe.load import fault
from edgelr.recipe.schema import Recipe
from edgelr.runtime.package import open_package

if TYPE_CHECKING:
    from edgelr.plan.kernels import KernelTimes
    from edgelr.plan.quality import FoundShare

    Measured = Made[KernelTimes] | Made[FoundShare]

_PLANNED = {"keep", "allocate", "rank_multiple", "groups"}
_SURVEYED = {"include", "exclude", "vocabulary", "calibration", "factors", "center"}


def load(job: Job) -> Made[Source]:
    """Recipe -> Source."""

    def make(folder: Path, _: Path) -> None:
        from edgelr.load.stage import load

        load(job.recipe, job.recipe_path.parent, job.model_folder, folder, job.progress)

    return run_stage(
        job,
        "load",
        "the dense model and its data",
        Depends(
            inputs={"model": job.model_fingerprint, **data_digest(job.recipe.task, job.recipe_path)},
            settings={
                "task": job.recipe.task.model_dump(mode="json"),
                "calibration": job.recipe.compress.calibration.examples,
                "seed": job.recipe.seed,
                "folder": str(job.model_folder),
                "model": job.recipe.model.model_dump(mode="json"),
                "license": card_license(job.model_folder),
            },
            libraries=data_libraries(job.recipe.task),
        ),
        make=make,
        read=read_source,
    )


def survey_sites(job: Job, source: Made[Source]) -> Made[Survey]:
    """Source -> Survey."""
    compress = job.recipe.compress

    def make(folder: Path, _: Path) -> None:
        from edgelr.survey.stage import survey

        survey(source.artifact, job.recipe.task, compress, folder, job.progress)

    return run_stage(
        job,
        "survey",
        "every factorable layer: spectrum and sensitivity",
        Depends(
            inputs={"source": source.key},
            settings=compress.model_dump(mode="json", include=_SURVEYED),
            libraries=("numpy", *model_libraries(job.recipe.task)),
        ),
        make=make,
        read=read_survey,
    )


def plan_ranks(job: Job, survey: Made[Survey], measured: Measured | None = None) -> Made[Plan]:
    """Survey + budget -> Plan; ``measured`` is what ``budgets.py`` found for a latency or a quality."""
    compress = job.recipe.compress
    inputs = {"survey": survey.key} | ({} if measured is None else {"measured": measured.key})

    def make(folder: Path, _: Path) -> None:
        from edgelr.plan.planner import Storage
        from edgelr.plan.stage import plan

        storage = Storage(precision=job.precision, pivoted=job.recipe.export.pivot)
        try:
            found = None if measured is None else measured.artifact
            plan(survey.artifact, compress, storage, folder, found)
        except UsageError as error:
            key, message = error.found.split(": ", 1)
            raise UsageError(fault(job.recipe_path, key, message).found, error.hint) from error

    return run_stage(
        job,
        "plan",
        "a rank for each layer",
        Depends(
            inputs=inputs,
            settings={
                **compress.model_dump(mode="json", include=_PLANNED),
                "precision": job.precision,
                "pivot": job.recipe.export.pivot,
            },
            libraries=("numpy",),
        ),
        make=make,
        read=read_plan,
    )


def compress(job: Job, source: Made[Source], survey: Made[Survey], plan: Made[Plan]) -> Made[Factored]:
    """Source + Survey + Plan -> Factored."""

    def make(folder: Path, _: Path) -> None:
        from edgelr.compress.stage import compress

        compress(source.artifact, survey.artifact, plan.artifact, job.recipe, folder, job.progress)

    return run_stage(
        job,
        "compress",
        "low-rank factors",
        Depends(
            inputs={"source": source.key, "survey": survey.key, "plan": plan.key},
            settings=job.recipe.compress.model_dump(mode="json", include={"factors", "refine"}),
            libraries=("numpy", *model_libraries(job.recipe.task)),
        ),
        make=make,
        read=read_factored,
    )


def finetune(job: Job, source: Made[Source], factored: Made[Factored]) -> Made[Factored]:
    """Source + Factored -> Factored; the same thing when the recipe has no such section."""
    settings = job.recipe.finetune
    if settings is None:
        return factored

    def make(folder: Path, scratch: Path) -> None:
        from edgelr.finetune.stage import finetune

        finetune(source.artifact, factored.artifact, job.recipe, folder, scratch, job.progress)

    return run_stage(
        job,
        "finetune",
        "the factors, tuned against the dense model",
        Depends(
            inputs={"source": source.key, "factored": factored.key},
            settings={
                **settings.model_dump(mode="json"),
                "seed": job.recipe.seed,
                **(_rounded(job.recipe) if settings.quantization_aware else {}),
            },
            libraries=("accelerate", "numpy", "torch", "transformers"),
        ),
        make=make,
        read=read_factored,
    )


def _rounded(recipe: Recipe) -> dict[str, Any]:
    """What of quantization is simulated while tuning."""
    quantize = recipe.quantize
    assert quantize is not None, "or a fault of the recipe"
    simulated = {"scheme", "layers", "block_size", "vocabulary"}
    return {
        "quantize": quantize.model_dump(mode="json", include=simulated),
        "globs": list(quantize.layers),  # in their order: the first that matches counts
    }


def export(job: Job, source: Made[Source], factored: Made[Factored] | None, macs: int) -> Made[Package]:
    """Source + Factored -> Package; without ``factored``, the dense model as a baseline."""
    name = job.recipe.name if factored is not None else f"{job.recipe.name}-dense"

    def make(folder: Path, _: Path) -> None:
        from edgelr.export.label import Label
        from edgelr.export.stage import export

        metric = own_metric(job.recipe.task, job.recipe_path)
        label = Label(name=name, task=job.recipe.task, macs=macs, metric=metric)
        artifact = None if factored is None else factored.artifact
        export(source.artifact, artifact, label, job.recipe.export, folder, job.progress)

    return run_stage(
        job,
        "export",
        "ONNX, equal to the model" if factored is not None else "the dense model as ONNX, the baseline",
        Depends(
            inputs={"source": source.key, "factored": factored.key if factored is not None else "dense"},
            settings={
                **job.recipe.export.model_dump(mode="json", exclude={"ort_format"}),
                "name": name,
                "macs": macs,
            },
            libraries=("numpy", "onnx", "onnxruntime", "onnxscript", *model_libraries(job.recipe.task)),
        ),
        make=make,
        read=open_package,
    )
