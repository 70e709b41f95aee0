"""What a speech model is tuned on: see ``sequence_losses.py``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgelr.examples import Utterance
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.tasks.sequence_losses import Sequences, cross_entropy, sequence_losses
from edgelr.tasks.spec_augment import hidden_spans
from edgelr.tasks.speech_folder import tokenizer_of
from edgelr.tasks.speech_model import FEATURES, collate, frames_of, prompt_of, run
from edgelr.tasks.task import Batch, Loss, Reading


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Utterance],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """The loss of every batch; see ``Task``. With ``distill.sequence``, references are the teacher's own."""
    sequences = Sequences(
        target="text",
        size=lambda example: len(example.text),
        collate=partial(collate, reading),
        run=run,
        generated=lambda model, part, beams: transcribed(model, reading, part, beams),
        own=cross_entropy,
        masked=partial(_masked, width=int(teacher.config.mask_time_length)),  # type: ignore[union-attr, arg-type]
    )
    return sequence_losses(teacher, sequences, examples, settings, seed, scratch, progress)


def _masked(batch: Batch, share: float, draw: np.random.Generator, *, width: int) -> Batch:
    """Frames that are hidden are 0, as transformers has it."""
    features = batch[FEATURES]
    rows, _, frames = features.shape
    hidden = hidden_spans(rows, frames, share, width, draw).to(features.device)
    return {**batch, FEATURES: features.masked_fill(hidden[:, None], 0.0)}


@torch.inference_mode()
def transcribed(
    model: nn.Module, reading: Reading, examples: Sequence[Utterance], beams: int = 1
) -> list[str]:
    """Transcribe a few examples at once, by transformers' own search."""
    device = next(model.parameters()).device
    features = collate(reading, examples)[FEATURES][..., : frames_of(model)].to(device)
    language = {} if reading.source_language is None else {"language": reading.source_language}
    ids = model.generate(  # type: ignore[operator]
        input_features=features,
        num_beams=beams,
        do_sample=False,
        # Without start and prompt; max_length would count less than a max_new_tokens of the model's own.
        max_new_tokens=reading.max_tokens - 1 - len(prompt_of(model, reading)),
        return_timestamps=False,
        **language,
    )
    tokenizer = tokenizer_of(reading)
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
