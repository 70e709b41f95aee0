"""Every stage in order. READ FIRST.

``build`` is the whole tool: it reads top to bottom as the list of stages. ``stages.py`` and
``package_stages.py`` say what each of them depends on and which function makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgelr.artifacts import CANDIDATE, Package, Plan
from edgelr.budgets import measure_budget
from edgelr.dense_model import train
from edgelr.errors import GateError
from edgelr.job import Job, ReachedEnd, open_job
from edgelr.outcome import Report
from edgelr.package_stages import baselines, ort_format, quantize, tune_sessions, validate, variants
from edgelr.progress import Progress
from edgelr.release import release
from edgelr.report.stage import write_report
from edgelr.runners.ahead import compile_ahead
from edgelr.runtime.variants import released
from edgelr.session_rows import Sessions
from edgelr.stages import compress, export, finetune, load, plan_ranks, survey_sites
from edgelr.verdict import Verdict


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
        job = train(job)
        source = load(job)
        survey = survey_sites(job, source)
        measured = measure_budget(job, source, survey)
        plan = plan_ranks(job, survey, measured)
        factored = compress(job, source, survey, plan)
        tuned = finetune(job, source, factored)
        fp32 = export(job, source, tuned, plan.artifact.candidate.macs)
        candidate = ort_format(job, quantize(job, fp32, source))
        others = variants(job, source, tuned, plan.artifact.candidate.macs)
        packages = {**baselines(job, source, survey), CANDIDATE: candidate, **others}
        sessions = tune_sessions(job, packages)
        verdict = validate(job, packages, sessions)
        artifacts = {name: made.artifact for name, made in packages.items()}
        return report(job, plan.artifact, artifacts, sessions.artifact, verdict)
    except ReachedEnd:
        return job.unfinished()


def plan(recipe: Path, out: Path | None = None, *, progress: Progress | None = None) -> Report:
    """Check a recipe and choose the ranks: load, survey, plan; finds every fault before any training.

    Raises:
        EdgelrError: Any expected failure, see ``errors.py``.
    """
    from edgelr.report.plan import plan_document, print_plan, print_variants, write_pictures

    job = replace(open_job(recipe, out, (), None, progress or Progress(quiet=True)), releases=False)
    job = train(job)
    source = load(job)
    survey = survey_sites(job, source)
    chosen = plan_ranks(job, survey, measure_budget(job, source, survey))
    print_plan(chosen.artifact, survey.artifact, job.progress)
    print_variants(job.recipe, job.progress)
    for picture in write_pictures(chosen.artifact, survey.artifact, job.out):
        job.progress.note(f"picture: {picture}")
    return Report(
        out=job.out, passed=True, package=None, document=plan_document(chosen.artifact, survey.artifact)
    )


def report(
    job: Job, plan: Plan, packages: dict[str, Package], sessions: Sessions, verdict: Verdict
) -> Report:
    """All of the above -> report.json, report.md and the released package.

    Raises:
        GateError: A gate failed, or could not be evaluated.
    """
    passed = verdict.passed and not job.unevaluated(verdict)
    if passed:
        for compiled in compile_ahead(packages, job.devices, job.out):
            job.progress.note(f"compiled for a chip: {compiled.relative_to(job.out)}")
    where = release(
        {name: replace(made, session=sessions.of(name)) for name, made in released(packages).items()},
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
        sessions=sessions,
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
        ] + job.unevaluated(verdict)
        raise GateError(
            f"{len(failed)} of {job.asked(verdict)} gates are not met: {'; '.join(failed)}",
            f"see {job.out / 'report.md'}; the package is in {where}",
        )
    return written
