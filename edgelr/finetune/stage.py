"""Stage finetune: Source + Factored -> Factored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgelr.artifacts import Factored, Source, write_json
from edgelr.finetune.loop import tune
from edgelr.finetune.losses import step_loss
from edgelr.finetune.schedule import epoch_batches
from edgelr.lowrank.checkpoint import load_factored_into, save_factored
from edgelr.metrics.retrieval import sentence_embedding_scores
from edgelr.progress import Progress
from edgelr.recipe.schema import Finetune, SentenceEmbedding
from edgelr.tasks.task import Batch, Task, get_task


def finetune(
    source: Source,
    factored: Factored,
    about: SentenceEmbedding,
    settings: Finetune,
    *,
    seed: int,
    folder: Path,
    scratch: Path,
    progress: Progress,
) -> Factored:
    """Tune the factors against the dense model's outputs; the best validation wins.

    Args:
        source: The dense model and its data.
        factored: The model to tune; not changed.
        about: The recipe's task.
        settings: The recipe's section.
        seed: Order of the texts.
        folder: Where the tuned model is written.
        scratch: Where checkpoints are kept between runs.
        progress: Where to show how far it is.

    Raises:
        DivergedError: A loss is not finite.
    """
    torch.manual_seed(seed)
    accelerator = Accelerator(mixed_precision="bf16" if uses_bf16(settings.precision) else "no")
    task = get_task(about.type)
    teacher = task.load_model(source.model_folder).requires_grad_(False).to(accelerator.device)
    student = load_factored_into(task.load_model(source.model_folder), factored)
    tokenizer = task.tokenizer_json(source.model_folder)
    loss_of_step = _losses(task, source, teacher, tokenizer, about.max_tokens, settings, seed, accelerator)
    score = _scorer(task, source, teacher, tokenizer, about.max_tokens)
    history = tune(
        student, loss_of_step, lambda model: score(model)["cosine"], settings, scratch, accelerator, progress
    )
    tuned = save_factored(
        student, folder, ranks=factored.ranks, method=f"{factored.method}, tuned", metrics=score(student)
    )
    write_json(folder / "history.json", history)
    return tuned


def uses_bf16(precision: Literal["auto", "fp32", "bf16"]) -> bool:
    """Whether to tune in bf16 (weights and optimizer stay fp32); ``auto`` asks the hardware."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _losses(
    task: Task,
    source: Source,
    teacher: nn.Module,
    tokenizer: str,
    max_tokens: int,
    settings: Finetune,
    seed: int,
    accelerator: Accelerator,
) -> Callable[[nn.Module, int], Tensor]:
    examples = source.examples("train")
    texts = task.texts(examples)
    pairs = [example for example in examples if example.query]
    lengths = [len(text) for text in texts]

    @lru_cache(maxsize=2)
    def batches(epoch: int) -> list[list[int]]:
        return epoch_batches(lengths, settings.batch, seed, epoch)

    def make(chosen: Sequence[str]) -> Batch:
        (batch,) = task.batches(tokenizer, chosen, max_tokens=max_tokens, size=len(chosen))
        return {name: tensor.to(accelerator.device) for name, tensor in batch.items()}

    def loss_of_step(model: nn.Module, step: int) -> Tensor:
        # Each process of a distributed run takes its own batch of the common order.
        number = step * accelerator.num_processes + accelerator.process_index
        epoch, at = divmod(number, len(batches(0)))
        batch = make([texts[index] for index in batches(epoch)[at]])
        with accelerator.autocast():
            return step_loss(task, model, teacher, batch, None, settings)

    return loss_of_step


def _scorer(
    task: Task, source: Source, teacher: nn.Module, tokenizer: str, max_tokens: int
) -> Callable[[nn.Module], dict[str, float]]:
    examples = source.examples("validation")
    sides = ([example.query or "" for example in examples], [example.passage for example in examples])
    references = [task.embed(teacher, tokenizer, side, max_tokens) for side in sides]

    def score(model: nn.Module) -> dict[str, float]:
        embeddings = [task.embed(model, tokenizer, side, max_tokens) for side in sides]
        scores = sentence_embedding_scores(*embeddings, *references)
        return {name: float(values.mean()) for name, values in scores.items()}

    return score
