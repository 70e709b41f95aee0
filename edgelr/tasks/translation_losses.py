"""What a translation model is tuned on: the dense model's distributions, states and attention; references."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgelr.examples import Translation
from edgelr.progress import Progress
from edgelr.recipe.schema import Distill, Finetune
from edgelr.tasks.order import batch_of_step
from edgelr.tasks.task import Batch, Loss, Outputs, Reading
from edgelr.tasks.translation_model import TARGETS, collate, language_token, run, tokenizer_of

_SEQUENCES = "sequences.jsonl"  # the dense model's translations, in the scratch folder
_GENERATED = 32  # texts that are translated together


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Translation],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """The loss of every batch; see ``Task``. With ``distill.sequence``, references are the teacher's own."""
    lengths = tuple(len(example.source) + len(example.target) for example in examples)
    device = next(teacher.parameters()).device
    chosen = list(examples)
    if settings.distill.sequence:
        numbers = range(settings.steps)
        used = sorted(
            {index for step in numbers for index in batch_of_step(lengths, settings.batch, seed, step)}
        )
        own = translations_of(
            teacher,
            reading,
            [examples[index] for index in used],
            settings.distill.sequence,
            scratch,
            progress,
        )
        for index, text in zip(used, own, strict=True):
            chosen[index] = replace(examples[index], target=text)
    if settings.distill.attention:
        teacher.set_attn_implementation("eager")  # type: ignore[operator] # no other returns what it looks at

    def loss(model: nn.Module, number: int) -> Tensor:
        if settings.distill.attention:
            model.set_attn_implementation("eager")  # type: ignore[operator]
        picked = [chosen[index] for index in batch_of_step(lengths, settings.batch, seed, number)]
        batch = {name: tensor.to(device) for name, tensor in collate(reading, picked).items()}
        return step_loss(model, teacher, batch, settings)

    return loss


def step_loss(student: nn.Module, teacher: nn.Module, batch: Batch, settings: Finetune) -> Tensor:
    """Distillation from the dense model, plus cross entropy of the references where it has weight.

    Args:
        student: The factored model.
        teacher: The dense model.
        batch: Of ``collate``.
        settings: The weights of the losses.
    """
    weights = settings.distill
    kept = {"hidden": weights.hidden > 0, "attention": weights.attention > 0}
    with torch.inference_mode():
        target = run(teacher, batch, **kept)
    own = run(student, batch, **kept)
    loss = distillation_loss(own, target, batch, weights)
    if settings.task_loss:
        loss = loss + settings.task_loss * cross_entropy(own.result, batch, settings.label_smoothing)
    return loss


def distillation_loss(student: Outputs, teacher: Outputs, batch: Batch, weights: Distill) -> Tensor:
    """Weighted sum of the divergence of the next token's distributions, of hidden states and of attention.

    Hidden states count relative to the teacher's energy of the layer. Padding does not count.

    Source:
        Hinton et al., Distilling the Knowledge in a Neural Network (2015), section 2, for the temperature.
    """
    counted = batch[TARGETS].to(student.result.dtype)
    loss = weights.logits * _divergence(student.result, teacher.result, counted, weights.temperature)
    if weights.hidden and student.hidden:
        masks = (batch["attention_mask"], batch[TARGETS])
        errors = [
            _relative_error(mine, theirs, next(mask for mask in masks if mask.shape == mine.shape[:2]))
            for mine, theirs in zip(student.hidden, teacher.hidden, strict=True)
        ]
        loss = loss + weights.hidden * torch.stack(errors).mean()
    if weights.attention and student.attention:
        differences = [
            ((mine - theirs).square().sum(-1).mean(1) * counted).sum() / counted.sum()
            for mine, theirs in zip(student.attention, teacher.attention, strict=True)
        ]
        loss = loss + weights.attention * torch.stack(differences).mean()
    return loss


def cross_entropy(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Mean cross entropy of the references' tokens.

    Source:
        Szegedy et al., Rethinking the Inception Architecture (2016), section 7, for label smoothing.
    """
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=smoothing
    )


def _divergence(own: Tensor, theirs: Tensor, counted: Tensor, temperature: float) -> Tensor:
    student, teacher = ((logits / temperature).log_softmax(-1) for logits in (own, theirs))
    per_token = (teacher.exp() * (teacher - student)).sum(-1)
    return temperature**2 * (per_token * counted).sum() / counted.sum()


def _relative_error(mine: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
    counted = mask.unsqueeze(-1).to(mine.dtype)
    return ((mine - theirs) * counted).square().sum() / (theirs * counted).square().sum()


def translations_of(
    model: nn.Module,
    reading: Reading,
    examples: Sequence[Translation],
    beams: int,
    scratch: Path,
    progress: Progress,
) -> list[str]:
    """Translate sources with beam search; what an interrupted run has translated is used again.

    Args:
        model: The dense model.
        reading: How texts become tokens.
        examples: What to translate.
        beams: Number of beams.
        scratch: Where translations are kept between runs.
        progress: Where to show how far it is.

    Source:
        Kim and Rush, Sequence-Level Knowledge Distillation (2016), section 3.2.
    """
    path = scratch / _SEQUENCES
    done: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="ascii").split("\n"):
            with suppress(ValueError):  # a line may have been cut
                done.update([json.loads(line)])
    left = sorted((each for each in examples if each.id not in done), key=lambda each: len(each.source))
    with (
        progress.bar("the dense model's translations", len(left)) as advance,
        path.open("a", encoding="ascii") as file,
    ):
        for start in range(0, len(left), _GENERATED):
            part = left[start : start + _GENERATED]
            for each, text in zip(part, generated(model, reading, part, beams), strict=True):
                done[each.id] = text
                file.write("\n" + json.dumps([each.id, text]))
            file.flush()
            advance(len(part))
    return [done[example.id] for example in examples]


@torch.inference_mode()
def generated(
    model: nn.Module, reading: Reading, examples: Sequence[Translation], beams: int = 1
) -> list[str]:
    """Translate the sources of a few examples at once, by transformers' own search."""
    tokenizer = tokenizer_of(reading)
    device = next(model.parameters()).device
    batch = collate(reading, examples)
    known = {} if reading.target_language is None else {"forced_bos_token_id": language_token(reading)}
    ids = model.generate(  # type: ignore[operator]
        input_ids=batch["input_ids"].to(device),
        attention_mask=batch["attention_mask"].to(device),
        num_beams=beams,
        do_sample=False,
        # Without the start token; max_length would count less than a max_new_tokens of the model's own.
        max_new_tokens=reading.max_tokens - 1,
        **known,
    )
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
