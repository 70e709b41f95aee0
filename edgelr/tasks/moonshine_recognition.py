"""Task ``automatic-speech-recognition`` by Moonshine; see ``speech.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import nn
from torch.nn.functional import pad

from edgelr.examples import Utterance
from edgelr.metrics.speech import speech_scores
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.tasks.ctc_model import VALUES, loudness_of, package_settings, parity_sounds
from edgelr.tasks.moonshine_model import (
    check_reach,
    collate,
    example_batches,
    load_model,
    run,
    token_table,
    transcribed,
)
from edgelr.tasks.sequence_losses import Sequences, cross_entropy, sequence_losses
from edgelr.tasks.sequence_scores import as_lines, nearness, scored, texts_of
from edgelr.tasks.speech_files import write_speech_files
from edgelr.tasks.speech_graphs import waveform_specs
from edgelr.tasks.speech_recognition import seen_tokens
from edgelr.tasks.task import Arrays, GraphSpec, Loss, Reading, Score
from edgelr.tasks.translation_model import distance, probe

__all__ = [
    "check_reach",
    "distance",
    "example_batches",
    "load_model",
    "package_settings",
    "probe",
    "run",
    "seen_tokens",
    "token_table",
]

_BATCH = 16
_STEPS = 8  # tokens of the decoder that parity cases have
# What the dense model makes of the last examples: two packages of one build hold the same.
_dense_outputs: dict[tuple[Reading, tuple[Utterance, ...]], list[str]] = {}


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
    )
    return sequence_losses(teacher, sequences, examples, settings, seed, scratch, progress)


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Utterance]
) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model, a token: smooth, and without any search."""
    return nearness(dense, run, example_batches(reading, examples, _BATCH))


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> Score:
    """Every metric of greedy transcripts, as ``validate`` measures them of packages."""
    references = [example.text for example in examples]
    return scored(dense, lambda model: transcribed(model, reading, examples), references, speech_scores)


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> list[GraphSpec]:
    """Loudness, an encoder of any number of samples, and a decoder; see ``speech_graphs``."""
    cases = []
    for pcm in parity_sounds(reading, examples):
        tokens = collate(reading, [examples[0]])["decoder_input_ids"].expand(len(pcm), -1)
        cases.append((pcm, pad(tokens, (0, _STEPS), value=0)[:, :_STEPS]))
    return waveform_specs(model, loudness_of(reading), VALUES, cases)


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Utterance],
    progress: Progress,
) -> Arrays:
    """Write tokenizer, sounds and how to search; return the dense model's transcripts; see ``Task``."""
    write_speech_files(folder, model, reading, examples)
    key = (reading, tuple(examples))
    if key not in _dense_outputs:
        _dense_outputs.clear()
        label = "transcripts of the dense model"
        _dense_outputs[key] = texts_of(
            examples, lambda part: transcribed(dense, reading, part), 1, label, progress
        )
    return as_lines(_dense_outputs[key])
