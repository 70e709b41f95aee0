"""Task ``translation``: texts of one language to another, by Marian, T5, mBART, M2M100 and their kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from edgelr.examples import Translation
from edgelr.metrics.translation import translation_scores
from edgelr.progress import Progress
from edgelr.tasks.sequence_scores import as_lines, nearness, scored, texts_of
from edgelr.tasks.task import Arrays, GraphSpec, Reading, Score
from edgelr.tasks.translation_files import write_text_files
from edgelr.tasks.translation_graphs import graph_specs
from edgelr.tasks.translation_losses import generated, losses
from edgelr.tasks.translation_model import (
    check_reach,
    distance,
    example_batches,
    load_model,
    probe,
    run,
    token_table,
    tokenizer_of,
)

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

EXAMPLE = Translation
# Of BART's kin, Marian among them; ``narrow_caches.py`` does not know how T5 splits its heads.
SHRINKS_HEADS = "*_proj"

_BATCH = 64
# What the dense model makes of the last examples: two packages of one build hold the same.
_dense_outputs: dict[tuple[Reading, tuple[Translation, ...]], list[str]] = {}
_STEPS = 8  # tokens of the decoder that parity cases have


def seen_tokens(reading: Reading, examples: Sequence[Translation]) -> set[int]:
    """Tokens of sources and references, and all special ones."""
    seen = set(tokenizer_of(reading).all_special_ids)
    for batch in example_batches(reading, examples, _BATCH):
        seen.update(batch["input_ids"].flatten().tolist(), batch["decoder_input_ids"].flatten().tolist())
    return seen


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Translation]
) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model, a token: smooth, and without any search."""
    return nearness(dense, run, example_batches(reading, examples, _BATCH))


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Translation]) -> Score:
    """Every metric of greedy translations, as ``validate`` measures them of packages."""
    ordered = sorted(examples, key=lambda example: (len(example.source), example.id))
    references = [example.target for example in ordered]

    def outputs(model: nn.Module) -> list[str]:
        return texts_of(ordered, lambda part: generated(model, reading, part), _BATCH)

    return scored(dense, outputs, references, translation_scores)


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Translation]) -> list[GraphSpec]:
    """An encoder and a decoder; see ``translation_graphs``.

    The parity cases are a padded batch of two (traced: sizes 0 and 1 would be taken for constants), one text
    alone at its first token, and a padded batch of three.
    """
    ordered = sorted(examples, key=lambda example: (len(example.source), example.id))
    longest = ordered[-max(1, len(ordered) // 10)]
    middle, shortest = ordered[len(ordered) // 2], ordered[0]
    cases = []
    for group in ([shortest, longest], [middle], [shortest, longest, middle]):
        (batch,) = example_batches(reading, group, len(group))
        tokens = torch.nn.functional.pad(batch["decoder_input_ids"], (0, _STEPS), value=0)[:, :_STEPS]
        cases.append(({name: batch[name] for name in ("input_ids", "attention_mask")}, tokens))
    return graph_specs(model, cases)


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """Where texts are split, how large the vocabulary is, and the languages of a model of many."""
    languages = {"source_language": reading.source_language, "target_language": reading.target_language}
    vocabulary = int(token_table(model).weight.shape[0])
    named = {name: code for name, code in languages.items() if code is not None}
    prefix = {"prefix": reading.prefix} if reading.prefix else {}
    return {"max_tokens": reading.max_tokens, "source_vocabulary": vocabulary, **prefix, **named}


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Translation],
    progress: Progress,
) -> Arrays:
    """Write the tokenizer's files and how to search; return the dense model's translations; see ``Task``."""
    write_text_files(folder, model, reading)
    key = (reading, tuple(examples))
    if key not in _dense_outputs:
        _dense_outputs.clear()
        _dense_outputs[key] = _translated(dense, reading, examples, progress)
    return as_lines(_dense_outputs[key])


def _translated(
    model: nn.Module, reading: Reading, examples: Sequence[Translation], progress: Progress
) -> list[str]:
    ordered = sorted(examples, key=lambda example: (len(example.source), example.id))
    label = "translations of the dense model"
    texts = texts_of(ordered, lambda part: generated(model, reading, part), _BATCH, label, progress)
    found = {example.id: text for example, text in zip(ordered, texts, strict=True)}
    return [found[example.id] for example in examples]
