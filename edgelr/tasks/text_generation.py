"""Task ``text-generation``: going on with texts, by Llama, Qwen, GPT-2, Gemma, Phi, Mistral and their kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from edgelr.examples import Passage
from edgelr.metrics.text_generation import Readings, generation_scores
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.tasks.sequence_losses import sequence_losses
from edgelr.tasks.sequence_scores import nearness
from edgelr.tasks.task import Arrays, GraphSpec, Loss, Reading, Score
from edgelr.tasks.text_generation_graphs import graph_spec
from edgelr.tasks.text_generation_model import (
    distance,
    example_batches,
    load_model,
    probe,
    readings_of,
    run,
    sequences_of,
    token_ids,
)
from edgelr.tasks.translation_files import write_text_files
from edgelr.tasks.translation_model import check_reach, token_table, tokenizer_of

__all__ = [
    "check_reach",
    "distance",
    "example_batches",
    "load_model",
    "probe",
    "run",
    "token_table",
]

EXAMPLE = Passage
SHRINKS_HEADS = ""  # keys and values come from outside the graph

_BATCH = 32
_CASE = 12  # most tokens of a parity case
# What the dense model makes of the last examples: two packages of one build hold the same.
_dense: dict[tuple[Reading, tuple[Passage, ...]], Readings] = {}


def seen_tokens(reading: Reading, examples: Sequence[Passage]) -> set[int]:
    """Tokens of the texts, and all special ones."""
    seen = set(tokenizer_of(reading).all_special_ids)
    for example in examples:
        seen.update(token_ids(reading, example))
    return seen


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Passage],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """The loss of every batch; see ``Task``. With ``distill.sequence``, second halves are the teacher's."""
    return sequence_losses(teacher, sequences_of(reading), examples, settings, seed, scratch, progress)


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Passage]
) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model, a token."""
    return nearness(dense, run, example_batches(reading, examples, _BATCH))


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Passage]) -> Score:
    """Every metric, as ``validate`` measures them of packages."""
    theirs = readings_of(dense, reading, examples)

    def score(model: nn.Module) -> dict[str, float]:
        own = theirs if model is dense else readings_of(model, reading, examples)
        return {name: found.value for name, found in generation_scores(own, theirs).items()}

    return score


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Passage]) -> list[GraphSpec]:
    """One graph; see ``text_generation_graphs``.

    The parity cases are the middle of a text (traced: sizes 0 and 1 would be taken for constants), a whole
    prompt, a single token behind one, and a text that is read by halves.
    """
    longest = max(examples, key=lambda example: (len(example.text), example.id))
    ids = torch.tensor([token_ids(reading, longest)[:_CASE]])
    length = ids.shape[1]
    cases = [(length, length // 2), (length, 0), (length, length - 1), (length - 1, length // 3)]
    return [graph_spec(model, [(ids[:, :end], before) for end, before in cases])]


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """How many tokens the package holds."""
    return {"max_tokens": reading.max_tokens}


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Passage],
    progress: Progress,
) -> Arrays:
    """Write the tokenizer's files and how to generate; return what the dense model makes of the examples."""
    write_text_files(folder, model, reading)
    key = (reading, tuple(examples))
    if key not in _dense:
        _dense.clear()
        _dense[key] = readings_of(dense, reading, examples, progress)
    return {f"dense_{name}": array for name, array in vars(_dense[key]).items()}
