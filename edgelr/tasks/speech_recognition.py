"""Task ``automatic-speech-recognition``: what is said in a sound, by Whisper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from edgelr.examples import Utterance
from edgelr.metrics.speech import speech_scores
from edgelr.progress import Progress
from edgelr.tasks.sequence_scores import as_lines, nearness, scored, texts_of
from edgelr.tasks.speech_files import write_speech_files
from edgelr.tasks.speech_folder import features_of, tokenizer_of
from edgelr.tasks.speech_graphs import graph_specs
from edgelr.tasks.speech_losses import losses, transcribed
from edgelr.tasks.speech_model import (
    check_reach,
    collate,
    example_batches,
    load_model,
    padded_sounds,
    run,
    token_table,
    window_samples,
)
from edgelr.tasks.task import Arrays, GraphSpec, Reading, Score
from edgelr.tasks.translation_model import distance, probe

__all__ = [
    "check_reach",
    "distance",
    "example_batches",
    "load_model",
    "losses",
    "probe",
    "run",
    "token_table",
]

EXAMPLE = Utterance

_BATCH = 16
_STEPS = 8  # tokens of the decoder that parity cases have
# What the dense model makes of the last examples: two packages of one build hold the same.
_dense_outputs: dict[tuple[Reading, tuple[Utterance, ...]], list[str]] = {}


def seen_tokens(reading: Reading, examples: Sequence[Utterance]) -> set[int]:
    """Tokens of the transcripts, and all special ones."""
    tokenizer = tokenizer_of(reading)
    texts = tokenizer([example.text for example in examples])["input_ids"]
    return {*tokenizer.all_special_ids, *(token for ids in texts for token in ids)}


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Utterance]
) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model, a token: smooth, and without any search."""
    return nearness(dense, run, example_batches(reading, examples, _BATCH))


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> Score:
    """Every metric of greedy transcripts, as ``validate`` measures them of packages."""
    ordered = sorted(examples, key=lambda example: (len(example.text), example.id))
    references = [example.text for example in ordered]

    def outputs(model: nn.Module) -> list[str]:
        return texts_of(ordered, lambda part: transcribed(model, reading, part), _BATCH)

    return scored(dense, outputs, references, speech_scores)


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> list[GraphSpec]:
    """Features, an encoder and a decoder; see ``speech_graphs``.

    The parity cases are a batch of two (traced: sizes 0 and 1 would be taken for constants), one window alone
    at its first token, and a batch of three.
    """
    ordered = sorted(examples, key=lambda example: (len(example.text), example.id))
    shortest, middle, longest = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    samples = window_samples(model)
    cases = []
    for group in ([shortest, longest], [middle], [shortest, longest, middle]):
        batch = collate(reading, group)
        tokens = torch.nn.functional.pad(batch["decoder_input_ids"], (0, _STEPS), value=0)[:, :_STEPS]
        cases.append((padded_sounds(reading, group, samples), tokens))
    return graph_specs(model, features_of(reading), cases)


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """How much sound the graphs read at once, and how long a transcript of it may be."""
    return {"max_tokens": reading.max_tokens, "window_samples": window_samples(model)}


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
            examples, lambda part: transcribed(dense, reading, part), _BATCH, label, progress
        )
    return as_lines(_dense_outputs[key])
