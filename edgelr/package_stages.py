"""The stages of a build that take packages, and need no torch; ``stages.py`` has those before them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgelr.artifact_files import read_sessions, read_verdict
from edgelr.artifacts import Factored, Package, Source, Survey
from edgelr.checks import timed_schemes
from edgelr.data_identity import own_metric, scoring_libraries
from edgelr.job import Depends, Job, Made, run_stage
from edgelr.recipe.quantize import Quantize, needs_data
from edgelr.runtime.package import open_package
from edgelr.session_rows import Sessions
from edgelr.stages import export
from edgelr.verdict import Verdict

if TYPE_CHECKING:
    from edgelr.quantize.fastest import SchemeTimes

_TUNED = {"tokens", "audio_s", "rows", "session_seconds"}


def quantize(
    job: Job, package: Made[Package], source: Made[Source], settings: Quantize | None = None
) -> Made[Package]:
    """Package -> Package; the same thing when the recipe has no such section.

    With ``settings`` it is a yardstick: no data is looked at, unless a scheme has to.
    """
    chosen = settings or job.recipe.quantize
    if chosen is None:
        return package
    looks = settings is None or needs_data(settings)
    finetune = job.recipe.finetune
    tuned = settings is None and finetune is not None and finetune.quantization_aware
    if tuned:
        chosen = chosen.model_copy(update={"rounding": "plain"})
    times = time_schemes(job, package, source) if chosen.scheme == "auto" else None

    def make(folder: Path, _: Path) -> None:
        from edgelr.quantize.calibration import data_of_source
        from edgelr.quantize.stage import quantize

        judged = replace(package.artifact, metric=own_metric(job.recipe.task, job.recipe_path))
        data = data_of_source(judged, source.artifact) if looks else None
        found = None if times is None else times.artifact
        quantize(judged, chosen, folder, job.progress, data, found, tuned=tuned)

    return run_stage(
        job,
        "quantize",
        chosen.scheme,
        Depends(
            inputs={
                "package": package.key,
                **({"source": source.key} if looks else {}),
                **({"times": times.key} if times is not None else {}),
            },
            # Globs in their order, which the key does not see in an object: the first that matches counts.
            settings={**chosen.model_dump(mode="json"), "globs": list(chosen.layers), "tuned": tuned},
            libraries=("numpy", "onnx", "onnxruntime", "tokenizers", *scoring_libraries(job.recipe.task)),
        ),
        make=make,
        read=open_package,
    )


def time_schemes(job: Job, package: Made[Package], source: Made[Source]) -> Made[SchemeTimes]:
    """Package + Source + Device -> SchemeTimes: what the scheme auto chooses by."""
    from edgelr.quantize.fastest import read_scheme_times

    device, settings = job.chosen_on, job.recipe.quantize
    assert device is not None
    assert settings is not None
    schemes = timed_schemes(job.takes[None])

    def make(folder: Path, _: Path) -> None:
        from edgelr.quantize.calibration import data_of_source
        from edgelr.quantize.times import time_schemes

        data = data_of_source(package.artifact, source.artifact)
        time_schemes(package.artifact, settings, schemes, device, data, folder, job.progress)

    return run_stage(
        job,
        "schemes",
        f"how long each layer takes on {device.name}",
        Depends(
            inputs={"package": package.key, "source": source.key},
            settings={
                "device": asdict(device),
                "host": job.host_fingerprint,
                "schemes": schemes,
                "block_size": settings.block_size,
            },
            libraries=("numpy", "onnx", "onnxruntime", "tokenizers", *scoring_libraries(job.recipe.task)),
        ),
        make=make,
        read=read_scheme_times,
    )


def ort_format(job: Job, package: Made[Package]) -> Made[Package]:
    """Package -> Package; the same thing unless the recipe asks for ONNX Runtime's own format."""
    if not job.recipe.export.ort_format:
        return package

    def make(folder: Path, _: Path) -> None:
        from edgelr.ort.stage import write_ort

        write_ort(package.artifact, folder, job.progress)

    return run_stage(
        job,
        "ort",
        "ONNX Runtime's own format, and the operators it needs",
        Depends(inputs={"package": package.key}, settings={}, libraries=("onnxruntime",)),
        make=make,
        read=open_package,
    )


def variants(job: Job, source: Made[Source], tuned: Made[Factored], macs: int) -> dict[str, Made[Package]]:
    """The same tuned model for the devices of this build that do not accept the recipe's own package."""
    made = {}
    for name, variant in job.recipe.variants.items():
        if name not in job.takes:
            continue
        devices = ", ".join(device.name for device in job.takes[name])
        job.progress.note(f"variant {name}, for {devices}")
        # What the tuning was aware of is the rounding of the recipe's own scheme.
        sections = {"export": variant.export, "quantize": variant.quantize, "finetune": None}
        its = replace(job, recipe=job.recipe.model_copy(update=sections))
        made[name] = ort_format(its, quantize(its, export(its, source, tuned, macs), source))
    return made


def baselines(job: Job, source: Made[Source], survey: Made[Survey]) -> dict[str, Made[Package]]:
    """The dense model as a user would ship it, to be measured next to the candidate."""
    wanted = job.recipe.validation.baselines
    if not wanted:
        return {}
    dense = dense_package(job, source, survey, "fp32")
    packages = {"dense-fp32": dense}
    if "dense-int8" in wanted:
        packages["dense-int8"] = _quantized(job, dense, source, "int8-dynamic")
    return packages


def dense_package(job: Job, source: Made[Source], survey: Made[Survey], precision: str) -> Made[Package]:
    """The dense model at a precision; no budget changes it."""
    macs = sum(site.out * site.in_ * site.calls for site in survey.artifact.sites)
    dense = export(job, source, None, macs)
    return dense if precision == "fp32" else _quantized(job, dense, source, precision)


def _quantized(job: Job, dense: Made[Package], source: Made[Source], precision: str) -> Made[Package]:
    # Whatever the loss: it is a yardstick, not a product.
    settings = {"scheme": precision, "min_cosine": 1e-6}
    return quantize(job, dense, source, Quantize.model_validate(settings))


def tune_sessions(job: Job, packages: dict[str, Made[Package]]) -> Made[Sessions]:
    """Packages + Devices -> Sessions; without time for it there are none, and nothing is in the store."""
    if not job.validation.session_seconds:
        return Made(artifact=Sessions(folder=job.out, rows=()), key="none")

    def make(folder: Path, _: Path) -> None:
        from edgelr.sessions.stage import tune_sessions
        from edgelr.timing.lengths import usable_lengths

        artifacts = {name: made.artifact for name, made in packages.items()}
        lengths, _notes = usable_lengths(artifacts["candidate"], job.validation)
        seconds = job.validation.session_seconds
        tune_sessions(artifacts, job.devices, lengths, seconds, folder, job.progress)

    return run_stage(
        job,
        "sessions",
        "settings of ONNX Runtime, measured",
        Depends(
            inputs={name: made.key for name, made in packages.items()},
            settings={
                **job.validation.model_dump(
                    mode="json", include={"tokens", "audio_s", "rows", "session_seconds"}
                ),
                "devices": [asdict(device) for device in job.devices],
                "host": job.host_fingerprint,
            },
            libraries=("numpy", "onnxruntime", "tokenizers"),
        ),
        make=make,
        read=read_sessions,
    )


def validate(job: Job, packages: dict[str, Made[Package]], sessions: Made[Sessions]) -> Verdict:
    """Packages + Sessions + Devices + gates -> Verdict."""

    def make(folder: Path, _: Path) -> None:
        from edgelr.validate.stage import validate

        metric, found = own_metric(job.recipe.task, job.recipe_path), sessions.artifact
        artifacts = {
            name: replace(made.artifact, metric=metric, session=found.of(name))
            for name, made in packages.items()
        }
        validate(artifacts, job.devices, job.validation, folder, job.progress)

    return run_stage(
        job,
        "validate",
        "accuracy, latency, memory, placement, gates",
        Depends(
            inputs={**{name: made.key for name, made in packages.items()}, "sessions": sessions.key},
            settings={
                **job.validation.model_dump(mode="json"),
                "devices": [asdict(device) for device in job.devices],
                "host": job.host_fingerprint,
            },
            libraries=("numpy", "onnxruntime", "tokenizers", *scoring_libraries(job.recipe.task)),
        ),
        make=make,
        read=read_verdict,
    ).artifact
