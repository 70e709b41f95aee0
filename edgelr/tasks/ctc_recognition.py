"""Task ``automatic-speech-recognition`` by models with CTC; see ``speech.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.artifact_files import write_json
from edgelr.errors import UsageError
from edgelr.examples import Utterance
from edgelr.metrics.speech import speech_scores
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.ctc import LETTERS
from edgelr.tasks.ctc_model import (
    HIDDEN,
    VALUES,
    check_reach,
    collate,
    ctc_loss,
    example_batches,
    letters_of,
    load_model,
    loudness_of,
    package_settings,
    parity_sounds,
    run,
    token_table,
    tokenizer_of,
    transcribed,
)
from edgelr.tasks.sequence_losses import TARGETS, Sequences, sequence_losses
from edgelr.tasks.sequence_scores import as_lines, nearness, scored, texts_of
from edgelr.tasks.spec_augment import hidden_spans
from edgelr.tasks.speech_files import copy_sounds
from edgelr.tasks.speech_graphs import features_spec
from edgelr.tasks.task import Arrays, Batch, GraphSpec, Loss, Reading, Score
from edgelr.tasks.translation_model import distance, probe

__all__ = [
    "check_reach",
    "distance",
    "example_batches",
    "load_model",
    "package_settings",
    "probe",
    "run",
    "token_table",
]

_BATCH = 16


def seen_tokens(reading: Reading, examples: Sequence[Utterance]) -> set[int]:
    """Every letter: there is no table of tokens to make smaller."""
    return set(tokenizer_of(reading).get_vocab().values())


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Utterance],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """The loss of every batch; see ``Task``."""
    sequences = Sequences(
        target="text",
        size=lambda example: len(example.text),
        collate=partial(collate, reading),
        run=run,
        generated=lambda model, part, _: transcribed(model, reading, part),
        own=partial(ctc_loss, blank=int(tokenizer_of(reading).pad_token_id)),
        masked=_masks_of(teacher),
    )
    if settings.distill.attention:
        raise UsageError("finetune.distill.attention: this model has no decoder that looks at anything")
    return sequence_losses(teacher, sequences, examples, settings, seed, scratch, progress)


def _masks_of(model: nn.Module) -> Callable[[Batch, float, np.random.Generator], Batch] | None:
    """What hides positions; None of a model that has nothing to put in their place."""
    config: Any = model.config
    places = [name for name, _ in model.named_parameters() if name.endswith("masked_spec_embed")]
    if not places or not config.apply_spec_augment:
        return None

    def masked(batch: Batch, share: float, draw: np.random.Generator) -> Batch:
        rows, frames = batch[TARGETS].shape
        hidden = hidden_spans(rows, frames, share, int(config.mask_time_length), draw)
        return {**batch, HIDDEN: hidden.to(batch[VALUES].device)}

    return masked


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Utterance]
) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model, a position: smooth, and without any search."""
    return nearness(dense, run, example_batches(reading, examples, _BATCH))


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> Score:
    """Every metric of the likeliest letters, as ``validate`` measures them of packages."""
    references = [example.text for example in examples]
    return scored(dense, lambda model: transcribed(model, reading, examples), references, speech_scores)


class CtcGraph(nn.Module):
    """Samples in, scores of the letters out.

    Args:
        model: A CTC model of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_values: Tensor) -> Tensor:
        """Logits ``[batch, positions, letters]`` of ``input_values [batch, samples]``."""
        logits: Tensor = self.model(input_values).logits
        return logits


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> list[GraphSpec]:
    """What makes the loudness right, and the model; of any number of samples."""
    cases = parity_sounds(reading, examples)
    loud = loudness_of(reading)
    with torch.inference_mode():
        values = [loud(pcm) for pcm in cases]
    axes = {0: "batch", 1: "samples"}
    return [
        features_spec(loud, VALUES, axes, cases),
        GraphSpec(
            role="model",
            module=CtcGraph(model),
            cases=tuple({VALUES: each} for each in values),
            dynamic_axes={VALUES: axes},
            outputs=("logits",),
            output_axes={"logits": {0: "batch", 1: "positions"}},
            travels=False,
        ),
    ]


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Utterance],
    progress: Progress,
) -> Arrays:
    """Write the letters and the sounds; return the dense model's transcripts; see ``Task``."""
    write_json(folder / LETTERS, letters_of(model, reading))
    copy_sounds(folder, reading, examples)
    label = "transcripts of the dense model"
    texts = texts_of(examples, lambda part: transcribed(dense, reading, part), 1, label, progress)
    return as_lines(texts)
