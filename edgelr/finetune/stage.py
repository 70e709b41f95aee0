"""Stage finetune: Source + Factored -> Factored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgelr.artifact_files import write_json
from edgelr.artifacts import Factored, Source
from edgelr.finetune.loop import tune
from edgelr.finetune.simulate import simulated
from edgelr.lowrank.activations import rectify
from edgelr.lowrank.checkpoint import load_factored_into, save_factored
from edgelr.progress import Progress
from edgelr.recipe.schema import Recipe
from edgelr.recipe.tasks import SentenceEmbedding
from edgelr.tasks.arithmetic import same_sums, uses_bf16
from edgelr.tasks.task import Loss, get_task, load_student, reading_of

# In texts of 128 tokens a step of MiniLM takes 1.05 s in place of 1.38 on two cores.
_FEW_TOKENS = 128


def finetune(
    source: Source, factored: Factored, recipe: Recipe, folder: Path, scratch: Path, progress: Progress
) -> Factored:
    """Tune the factors against the dense model's outputs; the best validation wins.

    Args:
        source: The dense model and its data.
        factored: The model to tune; not changed.
        recipe: Its task, its section ``finetune`` and its seed are used; ``quantize`` too, where it is tuned
            for.
        folder: Where the tuned model is written.
        scratch: Where checkpoints are kept between runs.
        progress: Where to show how far it is.

    Raises:
        DivergedError: A loss is not finite.
        DataError: There is a task loss, and no pair to compute it on.
        UnsupportedModelError: ReLU is asked for, and the model has no GELU of its own.
    """
    settings = recipe.finetune
    assert settings is not None, "a recipe without the section has no such stage"
    # Never accelerate's own mixed precision: it can be set only once in a process, and stays on the model.
    accelerator = Accelerator(mixed_precision="no")
    task, reading = get_task(recipe.task.type), reading_of(source, recipe.task)
    teacher = task.load_model(source.model_folder).requires_grad_(False).to(accelerator.device)
    student = load_factored_into(load_student(task, reading), factored)
    if accelerator.device.type == "cpu" and _reads_little(recipe):
        for model in (teacher, student):
            _attend_plainly(model)
    rectified = rectify(student) if settings.activations == "relu" else factored.rectified
    train, validation = (source.examples(split, task.EXAMPLE) for split in ("train", "validation"))
    loss = task.losses(teacher, reading, train, settings, recipe.seed, scratch, progress)
    validate = task.validator(teacher, reading, validation)
    loss_of_step = _of_process(loss, accelerator, bf16=uses_bf16(settings.precision))
    rounding = _rounding(recipe)
    with same_sums():
        history = tune(
            student, loss_of_step, validate, settings, scratch, accelerator, progress, rounding=rounding
        )
    tuned = save_factored(
        student,
        folder,
        reductions=factored.reductions,
        method=f"{factored.method}, tuned",
        rectified=rectified,
        metrics=task.scorer(teacher, reading, validation)(student),
    )
    write_json(folder / "history.json", history)
    return tuned


def _reads_little(recipe: Recipe) -> bool:
    """Whether attention can be taken apart: over sounds and long texts its weights take too much memory."""
    task, settings = recipe.task, recipe.finetune
    if not isinstance(task, SentenceEmbedding) or settings is None:
        return False
    return min(task.max_tokens, settings.max_tokens or task.max_tokens) <= _FEW_TOKENS


def _attend_plainly(model: nn.Module) -> None:
    """Take attention apart: on a CPU the gradient of one kernel for all of it takes longer."""
    for module in model.modules():
        if callable(choose := getattr(module, "set_attn_implementation", None)):
            choose("eager")


def _rounding(recipe: Recipe) -> Callable[[nn.Module], AbstractContextManager[None]] | None:
    """What simulates the recipe's quantization, where that is asked for."""
    settings = recipe.quantize
    if recipe.finetune is None or not recipe.finetune.quantization_aware or settings is None:
        return None
    return lambda model: simulated(model, settings)


def _of_process(loss: Loss, accelerator: Accelerator, *, bf16: bool) -> Loss:
    """Each process of a distributed run takes its own batch of the common order."""

    def loss_of_step(model: nn.Module, step: int) -> Tensor:
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
            return loss(model, step * accelerator.num_processes + accelerator.process_index)

    return loss_of_step
