"""What a translation model is tuned on: see ``sequence_losses.py``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from edgelr.examples import Translation
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.tasks.sequence_losses import Sequences, cross_entropy, sequence_losses
from edgelr.tasks.task import Loss, Reading
from edgelr.tasks.translation_model import collate, language_token, run, tokenizer_of


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
    return sequence_losses(teacher, sequences_of(reading), examples, settings, seed, scratch, progress)


def sequences_of(reading: Reading) -> Sequences:
    """How translations become batches and outputs."""
    return Sequences(
        target="target",
        size=lambda example: len(example.source) + len(example.target),
        collate=partial(collate, reading),
        run=run,
        generated=lambda model, examples, beams: generated(model, reading, examples, beams),
        own=cross_entropy,
    )


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
