"""Stage finetune: Source + Factored -> Factored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from tokenizers import Tokenizer
from torch import Tensor, nn

from edgelr.artifact_files import write_json
from edgelr.artifacts import Factored, Source
from edgelr.errors import DataError
from edgelr.examples import Example
from edgelr.finetune.loop import tune
from edgelr.finetune.losses import step_loss
from edgelr.finetune.schedule import batch_of_step
from edgelr.lowrank.checkpoint import load_factored_into, save_factored
from edgelr.progress import Progress
from edgelr.recipe.schema import Finetune, Recipe
from edgelr.runtime.text import batch_tokens, parse_tokenizer
from edgelr.tasks.scores import scorer
from edgelr.tasks.task import Batch, Task, get_task


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The dense model, and how texts become its input.

    Attributes:
        model: Frozen, on the device that tunes.
        task: What its outputs mean.
        tokenizer_json: The tokenizer as one document.
        tokenizer: The same, ready to use.
        max_tokens: Longer texts are cut.
    """

    model: nn.Module
    task: Task
    tokenizer_json: str
    tokenizer: Tokenizer
    max_tokens: int

    def batch(self, texts: Sequence[str], device: torch.device) -> Batch:
        """One padded batch, in the order of ``texts``."""
        arrays = batch_tokens(self.tokenizer, texts)
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def finetune(
    source: Source, factored: Factored, recipe: Recipe, folder: Path, scratch: Path, progress: Progress
) -> Factored:
    """Tune the factors against the dense model's outputs; the best validation wins.

    Args:
        source: The dense model and its data.
        factored: The model to tune; not changed.
        recipe: Its task, its section ``finetune`` and its seed are used.
        folder: Where the tuned model is written.
        scratch: Where checkpoints are kept between runs.
        progress: Where to show how far it is.

    Raises:
        DivergedError: A loss is not finite.
        DataError: There is a task loss, and no pair to compute it on.
    """
    settings = recipe.finetune
    assert settings is not None, "a recipe without the section has no such stage"
    # Never accelerate's own mixed precision: it can be set only once in a process, and stays on the model.
    accelerator = Accelerator(mixed_precision="no")
    teacher = _teacher(source, recipe, accelerator.device)
    student = load_factored_into(teacher.task.load_model(source.model_folder), factored)
    loss_of_step = _losses(teacher, source.examples("train"), settings, recipe.seed, accelerator)
    score = scorer(
        teacher.task,
        teacher.model,
        teacher.tokenizer_json,
        source.examples("validation"),
        teacher.max_tokens,
    )
    history = tune(
        student, loss_of_step, lambda model: score(model)["cosine"], settings, scratch, accelerator, progress
    )
    tuned = save_factored(
        student,
        folder,
        reductions=factored.reductions,
        method=f"{factored.method}, tuned",
        metrics=score(student),
    )
    write_json(folder / "history.json", history)
    return tuned


def uses_bf16(precision: Literal["auto", "fp32", "bf16"]) -> bool:
    """Whether to tune in bf16 (weights and optimizer stay fp32); ``auto`` asks the hardware."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _teacher(source: Source, recipe: Recipe, device: torch.device) -> Teacher:
    task = get_task(recipe.task.type)
    tokenizer = task.tokenizer_json(source.model_folder)
    return Teacher(
        model=task.load_model(source.model_folder).requires_grad_(False).to(device),
        task=task,
        tokenizer_json=tokenizer,
        tokenizer=parse_tokenizer(tokenizer, recipe.task.max_tokens),
        max_tokens=recipe.task.max_tokens,
    )


def _losses(
    teacher: Teacher, examples: Sequence[Example], settings: Finetune, seed: int, accelerator: Accelerator
) -> Callable[[nn.Module, int], Tensor]:
    texts = teacher.task.texts(examples)
    lengths = tuple(len(text) for text in texts)
    pairs = _pairs(examples) if settings.task_loss > 0 else []
    pair_lengths = tuple(len(passage) for _, passage in pairs)
    device = accelerator.device
    bf16 = uses_bf16(settings.precision)

    def pairs_of(number: int) -> tuple[Batch, Batch] | None:
        if not pairs:
            return None
        chosen = [pairs[index] for index in batch_of_step(pair_lengths, settings.batch, seed, number)]
        queries, passages = zip(*chosen, strict=True)
        return teacher.batch(queries, device), teacher.batch(passages, device)

    def loss_of_step(model: nn.Module, step: int) -> Tensor:
        # Each process of a distributed run takes its own batch of the common order.
        number = step * accelerator.num_processes + accelerator.process_index
        chosen = [texts[index] for index in batch_of_step(lengths, settings.batch, seed, number)]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return step_loss(
                teacher.task, model, teacher.model, teacher.batch(chosen, device), pairs_of(number), settings
            )

    return loss_of_step


def _pairs(examples: Sequence[Example]) -> list[tuple[str, str]]:
    pairs = [(example.query, example.passage) for example in examples if example.query]
    if len(pairs) < 2:
        raise DataError(
            f"finetune.task_loss needs pairs to train on; of {len(examples)} examples {len(pairs)} are pairs",
            "give more examples a query, or leave finetune.task_loss out",
        )
    return pairs
