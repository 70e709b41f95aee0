"""Budgets that are no share of the model: what has to be measured before ranks can be chosen for them.

A speedup needs to know how long kernels take on the device, a loss of quality which share of the parameters
holds it. Both are stages like those of ``stages.py``, between survey and plan, and run only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Source, Survey
from edgelr.data_identity import model_libraries, own_metric
from edgelr.job import Depends, Job, Made, run_stage
from edgelr.package_stages import dense_package
from edgelr.progress import Progress
from edgelr.recipe.tasks import OnnxGraph

if TYPE_CHECKING:
    from edgelr.plan.kernels import KernelTimes
    from edgelr.plan.quality import FoundShare
    from edgelr.stages import Measured
    from edgelr.structure import Reduction
    from edgelr.timing.kernel_graph import Timed

    Loss = Callable[[Sequence[Reduction]], float]

_PLANNED = {"allocate", "groups", "rank_multiple"}
_COMPRESSED = {"factors", "refine"}


def measure_budget(job: Job, source: Made[Source], survey: Made[Survey]) -> Measured | None:
    """What ``plan_ranks`` needs besides the survey; nothing for a budget that is a share."""
    keep = job.recipe.compress.keep
    if keep.latency is not None:
        return time_kernels(job, source, survey)
    if keep.quality is not None:
        return search_share(job, source, survey)
    return None


def time_kernels(job: Job, source: Made[Source], survey: Made[Survey]) -> Made[KernelTimes]:
    """Source + Survey + Device -> KernelTimes, next to the dense model at the recipe's precision."""
    from edgelr.plan.kernels import read_kernel_times

    device, latency = job.timed_on, job.recipe.compress.keep.latency
    assert device is not None
    assert latency is not None
    # --until means the candidate's export, not this one.
    dense = dense_package(replace(job, until=None), source, survey, job.precision)
    kernels = _kernels(job, survey.artifact)

    def make(folder: Path, scratch: Path) -> None:
        from edgelr.plan.kernels import Conditions, measure_kernels, write_kernel_times
        from edgelr.quantize.schemes import quantizer

        settings = job.recipe.quantize
        scheme = None if settings is None else settings.scheme
        assert scheme != "auto", "a fault of the recipe"
        conditions = Conditions(
            device=device,
            tokens=latency.tokens,
            quantize=quantizer(scheme, settings.block_size) if settings and scheme else None,
            seconds=latency.seconds,
        )
        times = measure_kernels(kernels, dense.artifact, conditions, scratch, job.progress)
        write_kernel_times(times, folder)

    return run_stage(
        job,
        "kernels",
        f"how long each shape takes on {device.name}",
        Depends(
            inputs={"package": dense.key},
            settings={
                "device": asdict(device),
                "host": job.host_fingerprint,
                "precision": job.precision,
                "tokens": latency.tokens,
                "seconds": latency.seconds,
                "kernels": [asdict(kernel) for kernel in kernels],
            },
            libraries=("numpy", "onnx", "onnxruntime"),
        ),
        make=make,
        read=read_kernel_times,
    )


def search_share(job: Job, source: Made[Source], survey: Made[Survey]) -> Made[FoundShare]:
    """Source + Survey + loss allowed -> the smallest share of the parameters that holds it."""
    from edgelr.plan.quality import read_found

    compress = job.recipe.compress
    quality = compress.keep.quality
    assert quality is not None

    def make(folder: Path, _: Path) -> None:
        from edgelr.plan.planner import Storage, make_planner, reductions_of, storage_price
        from edgelr.plan.quality import probes_needed, smallest_share, write_found

        storage = Storage(precision="fp32", pivoted=job.recipe.export.pivot)
        planner = make_planner(
            survey.artifact, compress, storage_price(survey.artifact, "parameters", storage)
        )
        loss = _loss(job, source.artifact, survey.artifact, quality.metric)
        least = planner.least_share
        with job.progress.bar(f"shares that hold {quality.metric}", probes_needed(least)) as advance:

            def drop(share: float) -> float:
                found = loss(reductions_of(planner.solve(share * planner.dense)))
                advance(note=f"share {share:.2f} drops {found:.4f}")
                return found

            write_found(smallest_share(drop, quality.max_drop, least), folder)

    return run_stage(
        job,
        "quality",
        f"the smallest share that holds {quality.metric}",
        Depends(
            inputs={"source": source.key, "survey": survey.key},
            settings={
                **compress.model_dump(mode="json", include=_PLANNED | _COMPRESSED),
                "quality": quality.model_dump(mode="json"),
                "pivot": job.recipe.export.pivot,
            },
            libraries=("numpy", "tokenizers", *model_libraries(job.recipe.task)),
        ),
        make=make,
        read=read_found,
    )


def _kernels(job: Job, survey: Survey) -> list[Timed]:
    from edgelr.plan.latency import kernels_to_time
    from edgelr.plan.planner import usable_groups

    compress = job.recipe.compress
    sites = {site.name: site for site in survey.sites}
    return kernels_to_time(sites, usable_groups(survey, compress), compress.rank_multiple)


def _loss(job: Job, source: Source, survey: Survey, metric: str) -> Loss:
    """Reductions -> what they cost a metric on the validation data, untuned; the dense model is run once."""
    if isinstance(job.recipe.task, OnnxGraph):
        return _loss_of_graph(source, survey, metric, own_metric(job.recipe.task, job.recipe_path))
    from edgelr.compress.torch_module import compressed
    from edgelr.tasks.task import get_task, reading_of

    task = get_task(job.recipe.task.type)
    dense = task.load_model(source.model_folder)
    reading = reading_of(source, job.recipe.task)
    score = task.scorer(dense, reading, source.examples("validation", task.EXAMPLE))
    best = score(dense)[metric]
    quiet = Progress(quiet=True)  # of each probe, one line is enough

    def loss(reductions: Sequence[Reduction]) -> float:
        return best - score(compressed(source, survey, reductions, job.recipe, quiet))[metric]

    return loss


def _loss_of_graph(source: Source, survey: Survey, metric: str, own: str | None) -> Loss:
    import tempfile

    from edgelr.compress.onnx_graph import compress_graph
    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.examples import Call
    from edgelr.kinds import arrays
    from edgelr.lowrank.graph_file import MODEL
    from edgelr.metrics.arrays import array_scores
    from edgelr.runtime.calls import read_calls
    from edgelr.runtime.graph import run_graph

    calls = read_calls(source.folder / "data", source.examples("validation", Call))
    device, quiet = load_devices()["cpu-1t"], Progress(quiet=True)

    def outputs(path: Path) -> list[dict[str, Any]]:
        session = open_session(path, device)
        return [dict(run_graph(session, call)) for call in calls]

    def score(found: list[dict[str, Any]]) -> float:
        return array_scores(found, dense, arrays.own_metric(own, found, calls))[metric].value

    dense = outputs(source.model_folder)
    best = score(dense)

    def loss(reductions: Sequence[Reduction]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            made = compress_graph(source.model_folder, survey, reductions, Path(folder), quiet)
            return best - score(outputs(made.folder / MODEL))

    return loss
