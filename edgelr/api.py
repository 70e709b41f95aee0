"""Compression alone, from Python, for any torch module: survey, plan, compress, save and load.

::

    from edgelr.api import compress, load_factored, plan, save_factored, survey

    batches = [{"x": torch.randn(32, 16)} for _ in range(8)]  # what model.forward takes, by name
    surveyed = survey(model, batches, Path("work/survey"))
    planned = plan(surveyed, Path("work/plan"), keep=0.5)
    small = compress(model, surveyed, planned)
    save_factored(small, Path("small"), planned)
    again = load_factored(Path("small"), model)

The same functions are behind ``edgelr build``, which also tunes, exports, quantizes and validates.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgelr.artifact_files import read_factored
from edgelr.artifacts import Plan, Survey
from edgelr.compress.torch_module import compress_module, refine_module
from edgelr.errors import UsageError
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.lowrank.checkpoint import save_factored as write_factored
from edgelr.plan.planner import Storage
from edgelr.plan.stage import plan as choose
from edgelr.progress import Progress
from edgelr.recipe.schema import Allocation, Compress, Factors
from edgelr.survey.statistics import MASK
from edgelr.survey.subject import Subject, check_weights
from edgelr.survey.torch_module import survey_module

Batch = Mapping[str, Tensor]


def survey(  # noqa: PLR0913 - every argument but three has a default
    model: nn.Module,
    batches: Sequence[Batch],
    folder: Path,
    *,
    run: Callable[[nn.Module, Batch], Tensor] | None = None,
    sensitivity_batches: int = 2,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    vocabulary: bool = False,
    factors: Factors = "kronecker",
    center: bool = False,
    progress: Progress | None = None,
) -> Survey:
    """List what of a model can be reduced, and measure what that would cost its output.

    How far an output is from the dense model's is its squared error, relative to the dense output's energy.

    Args:
        model: In evaluation mode, with fp32, fp16 or bf16 weights; as before when this returns.
        batches: Calibration data, each the keyword arguments of ``model.forward``. Where one is an
            ``attention_mask [batch, tokens]``, positions that it masks do not count.
        folder: Where the survey is kept; made when missing.
        run: (model, batch) -> output ``[batch, ...]``; the model's own first output when None.
        sensitivity_batches: How many of the batches measure sensitivities; with 0 none are, which saves much
            time, and plans must allocate by ``gradient``, ``energy`` or ``uniform``.
        include: Globs of layer names; a layer must fit one.
        exclude: Globs of layer names; a layer must fit none.
        vocabulary: Whether embeddings are layers to factor too, together with a head that shares the table.
        factors: How factors are chosen: ``plain``, ``whitened`` or ``kronecker``.
        center: Whether layers with a bias are fitted to inputs about their mean.
        progress: Where to show how far it is.

    Raises:
        UsageError: There is no batch.
        UnsupportedModelError: No layer can be factored.
        DataError: Activations are not finite.
    """
    if not batches:
        raise UsageError("survey needs at least one batch of calibration data, found none")
    folder.mkdir(parents=True, exist_ok=True)
    settings = _settings(
        keep=1.0,
        factors=factors,
        center=center,
        include=tuple(include),
        exclude=tuple(exclude),
        vocabulary=vocabulary,
    )
    subject = Subject(
        model=model,
        batches=batches,
        few=batches[:sensitivity_batches],
        run=run or first_output,
        distance=relative_error,
        probe=probe_relative_error,
        unit="token" if MASK in batches[0] else "example",
    )
    return survey_module(subject, settings, folder, progress or Progress(quiet=True))


def plan(
    surveyed: Survey,
    folder: Path,
    *,
    keep: float,
    rank_multiple: int = 16,
    allocate: Allocation = "sensitivity",
) -> Plan:
    """Choose a rank, or dense, for everything that a survey lists.

    Args:
        surveyed: Of the model.
        folder: Where the plan is kept; made when missing.
        keep: Share of the listed matrices' parameters to keep.
        rank_multiple: Ranks are multiples of this.
        allocate: ``sensitivity``, ``gradient``, ``energy`` or ``uniform``.

    Raises:
        UsageError: A value is out of range, ``keep`` leaves no rank, or sensitivities are to decide and were
            not measured.
    """
    settings = _settings(keep=keep, rank_multiple=rank_multiple, allocate=allocate)
    folder.mkdir(parents=True, exist_ok=True)
    return choose(surveyed, settings, Storage(precision="fp32", pivoted=False), folder)


def compress(
    model: nn.Module,
    surveyed: Survey,
    planned: Plan,
    *,
    factors: Factors = "kronecker",
    refine_on: Sequence[Batch] = (),
    run: Callable[[nn.Module, Batch], Tensor] | None = None,
) -> nn.Module:
    """A copy of a model with the planned low-rank layers.

    Args:
        model: The model that was surveyed; not changed.
        surveyed: Its survey.
        planned: What to do.
        factors: As of the survey.
        refine_on: Calibration data to fit the layers anew on, one after the other; none to leave that out.
        run: As of the survey.

    Raises:
        UnsupportedModelError: The plan is of another model.
    """
    check_weights(model)
    # Dense layers that are replaced are not copied first: a large model is not twice in memory.
    known = dict(model.named_modules(remove_duplicate=False))
    named = {name for each in planned.reductions for name in (*each.sites, *each.shared)}
    small = copy.deepcopy(model, {id(known[name]): known[name] for name in named & known.keys()})
    quiet = Progress(quiet=True)
    compress_module(small, surveyed, planned.reductions, factors, quiet)
    if refine_on:
        refine_module(small, model, surveyed, refine_on, run or first_output, quiet)
    return small


def save_factored(model: nn.Module, folder: Path, planned: Plan) -> None:
    """Write a compressed model as safetensors and its structure.

    Args:
        model: What ``compress`` returned, tuned or not.
        folder: Made when missing.
        planned: Its plan.

    Raises:
        UnsupportedModelError: A weight is not finite.
    """
    write_factored(model, folder, reductions=planned.reductions, method="by edgelr.api")


def load_factored(folder: Path, model: nn.Module) -> nn.Module:
    """Read a compressed model, strictly: every tensor there, of its shape, finite.

    Args:
        folder: What ``save_factored`` wrote, or an artifact of the stages compress and finetune.
        model: The dense model, for its structure; its weights do not matter, and it is not changed.

    Raises:
        DamagedArtifactError: A file is missing, damaged, or does not fit.
        UnsupportedModelError: The structure is not of this model.
    """
    return load_factored_into(copy.deepcopy(model), read_factored(folder))


def first_output(model: nn.Module, batch: Batch) -> Tensor:
    """The first tensor that a model gives for a batch of keyword arguments."""
    output = model(**batch)
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output
    return next(value for value in values if isinstance(value, Tensor))


def relative_error(output: Tensor, reference: Tensor) -> Tensor:
    """Squared error of each example over the energy of its reference, ``[batch]``."""
    output, reference = output.float(), reference.float()
    error = (output - reference).flatten(1).square().sum(1)
    return error / reference.flatten(1).square().sum(1).clamp(min=torch.finfo(torch.float32).tiny)


def probe_relative_error(output: Tensor) -> Tensor:
    """A random scalar function whose squared gradients average to the curvature of ``relative_error``."""
    output = output.float()
    energy = output.detach().flatten(1).square().sum(1)
    scale = torch.where(energy > 0, 2 / energy, 0.0).sqrt().reshape(-1, *[1] * (output.ndim - 1))
    scalar: Tensor = (output * torch.randn_like(output) * scale).sum()
    return scalar


def _settings(*, keep: float, **values: object) -> Compress:
    try:
        return Compress.model_validate({"keep": {"parameters": keep}, **values})
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise UsageError("; ".join(faults).replace("keep.parameters", "keep")) from error
