"""What an encoder-decoder is tuned on: the dense model's distributions, states and attention; references."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.errors import UsageError
from edgelr.progress import Progress
from edgelr.recipe.finetune import Distill, Finetune
from edgelr.tasks.order import batch_of_step
from edgelr.tasks.task import Batch, Loss, Outputs

SOURCE = "attention_mask"  # 1 where a source token counts; sounds have none
TARGETS = "decoder_attention_mask"  # 1 where a target token counts
_SEQUENCES = "sequences.jsonl"  # the dense model's outputs, in the scratch folder
_GENERATED = 32  # examples whose outputs are generated together


def outputs_from(out: Any, batch: Batch, *, hidden: bool, attention: bool) -> Outputs:  # noqa: ANN401
    """What is kept of what an encoder-decoder of transformers gives; logits are 0 where there is padding.

    Args:
        out: What the model gave.
        batch: What it was given.
        hidden: Whether to keep the states of every layer, first the encoder's, then the decoder's.
        attention: Whether to keep what the decoder looks at.
    """
    padding = batch[TARGETS].unsqueeze(-1) == 0
    states = (*out.encoder_hidden_states[1:], *out.decoder_hidden_states[1:]) if hidden else ()
    looks = tuple(out.cross_attentions) if attention else ()
    return Outputs(result=out.logits.masked_fill(padding, 0.0), hidden=states, attention=looks)


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """How the examples of a task become batches and outputs.

    Attributes:
        target: Field of an example that is its reference.
        size: How long an example is, in any unit.
        collate: Examples -> a padded batch.
        run: (model, batch, which outputs to keep) -> what the model gives.
        generated: (model, examples, beams) -> what it says.
        own: (logits, batch, label smoothing) -> the task's own loss.
        masked: (batch, share, chance) -> the batch with that share of the source hidden; None where a model
            has no way to hide it.
    """

    target: str
    size: Callable[[Any], int]
    collate: Callable[[Sequence[Any]], Batch]
    run: Callable[..., Outputs]
    generated: Callable[[nn.Module, Sequence[Any], int], list[str]]
    own: Callable[[Tensor, Batch, float], Tensor]
    masked: Callable[[Batch, float, np.random.Generator], Batch] | None = None


def sequence_losses(
    teacher: nn.Module,
    sequences: Sequences,
    examples: Sequence[Any],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """The loss of every batch; see ``Task``. With ``distill.sequence``, references are the teacher's own.

    With ``mask_time`` the student does not hear all, and is to say what the teacher says that does.
    """
    if settings.mask_time and sequences.masked is None:
        raise UsageError(
            "finetune.mask_time: this model has no masked positions",
            "take it out; Whisper, wav2vec2 have them",
        )
    lengths = tuple(map(sequences.size, examples))
    device = next(teacher.parameters()).device
    chosen = list(examples)
    if settings.distill.sequence:
        numbers = range(settings.steps)
        used = sorted(
            {index for step in numbers for index in batch_of_step(lengths, settings.batch, seed, step)}
        )
        told = [examples[index] for index in used]
        own = outputs_of(teacher, sequences, told, settings.distill.sequence, scratch, progress)
        for index, text in zip(used, own, strict=True):
            chosen[index] = replace(examples[index], **{sequences.target: text})
    if settings.distill.attention:
        teacher.set_attn_implementation("eager")  # type: ignore[operator] # no other returns what it looks at

    def loss(model: nn.Module, number: int) -> Tensor:
        if settings.distill.attention:
            model.set_attn_implementation("eager")  # type: ignore[operator]
        picked = [chosen[index] for index in batch_of_step(lengths, settings.batch, seed, number)]
        batch = {name: tensor.to(device) for name, tensor in sequences.collate(picked).items()}
        heard = batch
        if settings.mask_time and sequences.masked is not None:
            heard = sequences.masked(batch, settings.mask_time, np.random.default_rng([seed, number]))
        return step_loss(model, teacher, sequences, batch, settings, heard)

    return loss


def step_loss(
    student: nn.Module,
    teacher: nn.Module,
    sequences: Sequences,
    batch: Batch,
    settings: Finetune,
    heard: Batch | None = None,
) -> Tensor:
    """Distillation from the dense model, plus the task's own loss where it has weight.

    Args:
        student: The factored model.
        teacher: The dense model.
        sequences: How batches are run.
        batch: Made by it.
        settings: The weights of the losses.
        heard: What the student is given instead, part of it hidden.
    """
    weights = settings.distill
    kept = {"hidden": weights.hidden > 0, "attention": weights.attention > 0}
    with torch.inference_mode():
        target = sequences.run(teacher, batch, **kept)
    own = sequences.run(student, batch if heard is None else heard, **kept)
    loss = distillation_loss(own, target, batch, weights)
    if settings.task_loss:
        loss = loss + settings.task_loss * sequences.own(own.result, batch, settings.label_smoothing)
    return loss


def distillation_loss(student: Outputs, teacher: Outputs, batch: Batch, weights: Distill) -> Tensor:
    """Weighted sum of the divergence of the next token's distributions, of hidden states and of attention.

    Hidden states count relative to the teacher's energy of the layer. Padding does not count. Where the
    student reads a shorter window of sound, the teacher's first part is compared.

    Source:
        Hinton et al., Distilling the Knowledge in a Neural Network (2015), section 2, for the temperature.
    """
    counted = batch[TARGETS].to(student.result.dtype)
    loss = weights.logits * _divergence(student.result, teacher.result, counted, weights.temperature)
    if weights.hidden and student.hidden:
        masks = [batch[name] for name in (SOURCE, TARGETS) if name in batch]
        errors = [
            _relative_error(mine, theirs[:, : mine.shape[1]], _mask_of(mine, masks))
            for mine, theirs in zip(student.hidden, teacher.hidden, strict=True)
        ]
        loss = loss + weights.hidden * torch.stack(errors).mean()
    if weights.attention and student.attention:
        differences = [
            ((mine - theirs[..., : mine.shape[-1]]).square().sum(-1).mean(1) * counted).sum() / counted.sum()
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


def _mask_of(states: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """The mask of the same shape; without one all positions count, as of sound, where silence counts too."""
    fitting = (mask for mask in masks if mask.shape == states.shape[:2])
    return next(fitting, torch.ones(states.shape[:2], device=states.device))


def _relative_error(mine: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
    counted = mask.unsqueeze(-1).to(mine.dtype)
    return ((mine - theirs) * counted).square().sum() / (theirs * counted).square().sum()


def outputs_of(
    model: nn.Module,
    sequences: Sequences,
    examples: Sequence[Any],
    beams: int,
    scratch: Path,
    progress: Progress,
) -> list[str]:
    """What a model says of examples, by beam search; what an interrupted run has generated is used again.

    Args:
        model: The dense model.
        sequences: How it generates.
        examples: What it reads.
        beams: Number of beams.
        scratch: Where outputs are kept between runs.
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
    left = sorted((each for each in examples if each.id not in done), key=sequences.size)
    with (
        progress.bar("the dense model's outputs", len(left)) as advance,
        path.open("a", encoding="ascii") as file,
    ):
        for start in range(0, len(left), _GENERATED):
            part = left[start : start + _GENERATED]
            for each, text in zip(part, sequences.generated(model, part, beams), strict=True):
                done[each.id] = text
                file.write("\n" + json.dumps([each.id, text]))
            file.flush()
            advance(len(part))
    return [done[example.id] for example in examples]
