"""Task ``automatic-speech-recognition`` by models with CTC; see ``speech.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.artifact_files import write_json
from edgelr.errors import UsageError
from edgelr.examples import Utterance
from edgelr.metrics.speech import speech_scores
from edgelr.progress import Progress
from edgelr.recipe.schema import Finetune
from edgelr.runtime.ctc import LETTERS
from edgelr.tasks.ctc_model import (
    VALUES,
    check_reach,
    collate,
    ctc_loss,
    example_batches,
    letters_of,
    load_model,
    loudness_of,
    run,
    token_table,
    tokenizer_of,
    transcribed,
)
from edgelr.tasks.sequence_losses import TARGETS, Sequences, sequence_losses
from edgelr.tasks.speech_files import copy_sounds
from edgelr.tasks.speech_model import sound_of
from edgelr.tasks.task import Arrays, GraphSpec, Loss, Reading, Score
from edgelr.tasks.translation_model import distance, probe

__all__ = ["check_reach", "distance", "example_batches", "load_model", "probe", "run", "token_table"]

_BATCH = 16
_LONGEST_S = 30
_PARITY_S = (1.0, 0.5, 1.5)  # lengths of the parity cases; the first is traced


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
    )
    if settings.distill.attention:
        raise UsageError("finetune.distill.attention: this model has no decoder that looks at anything")
    return sequence_losses(teacher, sequences, examples, settings, seed, scratch, progress)


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Utterance]
) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model, a position: smooth, and without any search."""
    batches = example_batches(reading, examples, _BATCH)
    with torch.inference_mode():
        references = [run(dense, batch).result for batch in batches]
    positions = sum(int(batch[TARGETS].sum()) for batch in batches)

    @torch.inference_mode()
    def score(model: nn.Module) -> float:
        device = next(model.parameters()).device
        lost = 0.0
        for batch, reference in zip(batches, references, strict=True):
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            lost += float(distance(run(model, moved).result, reference.to(device)).double().sum())
        return -lost / positions

    return score


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> Score:
    """Every metric of the likeliest letters, as ``validate`` measures them of packages."""
    references = [example.text for example in examples]
    dense_outputs = transcribed(dense, reading, examples)

    def score(model: nn.Module) -> dict[str, float]:
        own = dense_outputs if model is dense else transcribed(model, reading, examples)
        return {name: found.value for name, found in speech_scores(own, references, dense_outputs).items()}

    return score


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
    joined = torch.from_numpy(np.concatenate([sound_of(reading, each) for each in examples[:_BATCH]]))
    cases = []
    for seconds, rows in zip(_PARITY_S, (2, 1, 3), strict=True):
        samples = int(seconds * 16_000)
        repeated = joined.repeat(1 + rows * samples // len(joined))
        cases.append(repeated[: rows * samples].reshape(rows, samples))
    loud = loudness_of(reading)
    with torch.inference_mode():
        values = [loud(pcm) for pcm in cases]
    axes = {0: "batch", 1: "samples"}
    return [
        GraphSpec(
            role="features",
            module=loud,
            cases=tuple({"pcm": pcm} for pcm in cases),
            dynamic_axes={"pcm": axes},
            outputs=(VALUES,),
            output_axes={VALUES: axes},
            travels=False,
        ),
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


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """How much sound is read at once; shorter sounds cost less."""
    seconds = reading.window_s or _LONGEST_S
    return {"max_tokens": reading.max_tokens, "window_samples": round(seconds * 16_000)}


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
    with progress.bar("transcripts of the dense model", len(examples)) as advance:
        lines = []
        for example in examples:
            (text,) = transcribed(dense, reading, [example])
            lines.append(" ".join(text.split()))
            advance()
    return {"dense_outputs": np.frombuffer("\n".join(lines).encode(), np.uint8)}
