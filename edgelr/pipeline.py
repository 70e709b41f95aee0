"""Every stage in order. READ FIRST.

``build`` is the whole tool: it reads top to bottom as the list of stages. Each ``_stage`` function below it
says what that stage's result depends on (the key in the store), and which function makes it. Those functions
are imported only when something has to be made, so a build that reuses everything never loads torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgelr.artifacts import (
    Factored,
    Package,
    Plan,
    Report,
    Source,
    Survey,
    Verdict,
    read_factored,
    read_plan,
    read_source,
    read_survey,
    read_verdict,
)
from edgelr.errors import GateError
from edgelr.job import Job, Made, ReachedEnd, open_job, run_stage
from edgelr.progress import Progress
from edgelr.recipe.schema import Quantize
from edgelr.runtime.package import open_package

STAGES = ("load", "survey", "plan", "compress", "finetune", "export", "quantize", "validate", "report")


def build(
    recipe: Path,
    out: Path | None = None,
    *,
    until: str | None = None,
    devices: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Build a validated package from a recipe; what is already built is used again.

    Args:
        recipe: The recipe's file.
        out: Where package and report go; ``build/<name>`` when None.
        until: Last stage to run; all when None.
        devices: Names of device profiles to validate on, in place of the recipe's.
        progress: Where to show what happens; nowhere when None.

    Returns:
        The report; with ``until``, only the stages so far.

    Raises:
        GateError: A gate failed; the report is written and the package is in ``rejected/``.
        EdgelrError: Any other expected failure, see ``errors.py``.
    """
    job = open_job(recipe, out, devices, until, progress or Progress(quiet=True))
    try:
        source = load(job)
        survey = survey_sites(job, source)
        plan = plan_ranks(job, survey)
        factored = compress(job, source, survey, plan)
        tuned = finetune(job, source, factored)
        fp32 = export(job, source, tuned, plan)
        candidate = quantize(job, fp32)
        packages = {**baselines(job, source, plan), "candidate": candidate}
        verdict = validate(job, packages)
        return report(job, plan.artifact, {name: made.artifact for name, made in packages.items()}, verdict)
    except ReachedEnd:
        return job.unfinished()


def plan(recipe: Path, out: Path | None = None, *, progress: Progress | None = None) -> Report:
    """Check a recipe and choose the ranks: load, survey, plan; finds every fault before any training.

    Raises:
        EdgelrError: Any expected failure, see ``errors.py``.
    """
    from edgelr.report.plan import print_plan, plan_document

    job = open_job(recipe, out, (), None, progress or Progress(quiet=True))
    source = load(job)
    survey = survey_sites(job, source)
    chosen = plan_ranks(job, survey)
    print_plan(chosen.artifact, survey.artifact, job.progress)
    return Report(
        out=job.out, passed=True, package=None, document=plan_document(chosen.artifact, survey.artifact)
    )


# --- the stages ----------------------------------------------------------------------------------


def load(job: Job) -> Made[Source]:
    """Recipe -> Source."""

    def make(folder: Path, _: Path) -> None:
        from edgelr.load.stage import load

        load(job.recipe, job.recipe_path.parent, job.model_folder, folder, job.progress)

    return run_stage(
        job,
        "load",
        "the dense model and its data",
        inputs={"model": job.model_fingerprint, **job.data_digest},
        settings={
            "task": job.recipe.task.model_dump(mode="json"),
            "calibration": job.recipe.compress.calibration.examples,
            "seed": job.recipe.seed,
            "folder": str(job.model_folder),
        },
        libraries=job.data_libraries,
        make=make,
        read=read_source,
    )


def survey_sites(job: Job, source: Made[Source]) -> Made[Survey]:
    """Source -> Survey."""
    compress = job.recipe.compress

    def make(folder: Path, _: Path) -> None:
        from edgelr.survey.stage import survey

        survey(
            source.artifact, job.recipe.task.type, job.recipe.task.max_tokens, compress, folder, job.progress
        )

    return run_stage(
        job,
        "survey",
        "every factorable layer: spectrum and sensitivity",
        inputs={"source": source.key},
        settings=compress.model_dump(mode="json", include={"include", "exclude", "calibration"}),
        libraries=("numpy", "torch", "transformers"),
        make=make,
        read=read_survey,
    )


def plan_ranks(job: Job, survey: Made[Survey]) -> Made[Plan]:
    """Survey + budget -> Plan."""
    compress = job.recipe.compress

    def make(folder: Path, _: Path) -> None:
        from edgelr.plan.stage import plan

        plan(survey.artifact, compress, job.precision, folder)

    return run_stage(
        job,
        "plan",
        "a rank for each layer",
        inputs={"survey": survey.key},
        settings={
            **compress.model_dump(mode="json", include={"keep", "allocate", "rank_multiple"}),
            "precision": job.precision,
        },
        libraries=("numpy",),
        make=make,
        read=read_plan,
    )


def compress(job: Job, source: Made[Source], survey: Made[Survey], plan: Made[Plan]) -> Made[Factored]:
    """Source + Survey + Plan -> Factored."""

    def make(folder: Path, _: Path) -> None:
        from edgelr.compress.stage import compress

        method = job.recipe.compress.factors
        compress(
            source.artifact,
            survey.artifact,
            plan.artifact,
            job.recipe.task.type,
            method,
            folder,
            job.progress,
        )

    return run_stage(
        job,
        "compress",
        "low-rank factors",
        inputs={"source": source.key, "survey": survey.key, "plan": plan.key},
        settings={"factors": job.recipe.compress.factors},
        libraries=("numpy", "torch", "transformers"),
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

        finetune(
            source.artifact,
            factored.artifact,
            job.recipe.task,
            settings,
            seed=job.recipe.seed,
            folder=folder,
            scratch=scratch,
            progress=job.progress,
        )

    return run_stage(
        job,
        "finetune",
        "the factors, tuned against the dense model",
        inputs={"source": source.key, "factored": factored.key},
        settings={**settings.model_dump(mode="json"), "seed": job.recipe.seed},
        libraries=("accelerate", "numpy", "torch", "transformers"),
        make=make,
        read=read_factored,
    )


def export(
    job: Job, source: Made[Source], factored: Made[Factored] | None, plan: Made[Plan]
) -> Made[Package]:
    """Source + Factored -> Package; without ``factored``, the dense model as a baseline."""
    name = job.recipe.name if factored is not None else f"{job.recipe.name}-dense"
    cost = plan.artifact.candidate if factored is not None else plan.artifact.dense

    def make(folder: Path, _: Path) -> None:
        from edgelr.export.stage import Label, export

        label = Label(
            name=name, task=job.recipe.task.type, max_tokens=job.recipe.task.max_tokens, macs=cost.macs
        )
        artifact = None if factored is None else factored.artifact
        export(source.artifact, artifact, label, job.recipe.export, folder, job.progress)

    return run_stage(
        job,
        "export",
        "ONNX, equal to torch" if factored is not None else "the dense model as ONNX, the baseline",
        inputs={"source": source.key, "factored": factored.key if factored is not None else "dense"},
        settings={**job.recipe.export.model_dump(mode="json"), "name": name, "macs": cost.macs},
        libraries=("numpy", "onnx", "onnxruntime", "onnxscript", "torch", "transformers"),
        make=make,
        read=open_package,
    )


def quantize(job: Job, package: Made[Package], settings: Quantize | None = None) -> Made[Package]:
    """Package -> Package; the same thing when the recipe has no such section."""
    chosen = settings or job.recipe.quantize
    if chosen is None:
        return package

    def make(folder: Path, _: Path) -> None:
        from edgelr.quantize.stage import quantize

        quantize(package.artifact, chosen, folder, job.progress)

    return run_stage(
        job,
        "quantize",
        chosen.scheme,
        inputs={"package": package.key},
        settings=chosen.model_dump(mode="json"),
        libraries=("numpy", "onnx", "onnxruntime", "tokenizers"),
        make=make,
        read=open_package,
    )


def baselines(job: Job, source: Made[Source], plan: Made[Plan]) -> dict[str, Made[Package]]:
    """The dense model as a user would ship it, to be measured next to the candidate."""
    wanted = job.recipe.validation.baselines
    if not wanted:
        return {}
    dense = export(job, source, None, plan)
    packages = {"dense-fp32": dense}
    if "dense-int8" in wanted:
        # Whatever the loss: it is a yardstick, not a product.
        packages["dense-int8"] = quantize(job, dense, Quantize(scheme="int8-dynamic", min_cosine=1e-6))
    return packages


def validate(job: Job, packages: dict[str, Made[Package]]) -> Verdict:
    """Packages + Devices + gates -> Verdict."""

    def make(folder: Path, _: Path) -> None:
        from edgelr.validate.stage import validate

        artifacts = {name: made.artifact for name, made in packages.items()}
        validate(artifacts, job.devices, job.validation, folder, job.progress)

    return run_stage(
        job,
        "validate",
        "accuracy, latency, memory, placement, gates",
        inputs={name: made.key for name, made in packages.items()},
        settings={
            **job.validation.model_dump(mode="json"),
            "devices": [device.model_dump(mode="json") for device in job.devices],
            "host": job.host_fingerprint,
        },
        libraries=("numpy", "onnxruntime", "tokenizers"),
        make=make,
        read=read_verdict,
    ).artifact


def report(job: Job, plan: Plan, packages: dict[str, Package], verdict: Verdict) -> Report:
    """All of the above -> report.json, report.md and the released package.

    Raises:
        GateError: A gate failed, or could not be evaluated.
    """
    from edgelr.release import release
    from edgelr.report.stage import write_report

    passed = verdict.passed and not job.unevaluated(verdict)
    where = release(
        packages["candidate"],
        verdict,
        gates=[gate.model_dump(mode="json", exclude_none=True) for gate in job.validation.gates],
        recipe_hash=job.recipe_hash,
        passed=passed,
        out=job.out,
    )
    written = write_report(
        recipe=job.recipe,
        plan=plan,
        packages=packages,
        verdict=verdict,
        passed=passed,
        stages=job.rows,
        host=job.host,
        warnings=job.progress.warnings,
        out=job.out,
    )
    job.tell_end(written, verdict, where)
    if not passed:
        failed = [
            f"{row.gate}: found {row.value:.4g}, the limit is {row.limit:.4g}"
            for row in verdict.gates
            if not row.passed
        ]
        raise GateError(
            f"{len(failed) + len(job.unevaluated(verdict))} of {len(job.validation.gates)} gates are not met: "
            + "; ".join([*failed, *job.unevaluated(verdict)]),
            f"see {job.out / 'report.md'}; the package is in {where}",
        )
    return written
