"""The model of the task ``text-generation``: a causal language model of transformers, its batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Passage
from edgelr.metrics.text_generation import LENGTH, Readings, as_continuations
from edgelr.progress import Progress
from edgelr.runtime.continue_text import half_of
from edgelr.tasks.pretrained import check_config, load_pretrained, read_json
from edgelr.tasks.sequence_losses import SOURCE, TARGETS, Sequences, cross_entropy
from edgelr.tasks.stored_model import load_stored
from edgelr.tasks.task import Batch, Outputs, Reading
from edgelr.tasks.translation_model import distance, probe, tokenizer_of

__all__ = ["distance", "probe"]

_IGNORED = -100  # of labels: what is no target
_BATCH = 16  # of texts that are read or continued at once


def load_model(folder: Path) -> nn.Module:
    """Load a causal language model strictly, in evaluation mode, fp32.

    Matrices of one that is too large for the free memory stay in their files; what it computes is the same.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged, or is no model of this kind.
    """
    config = read_json(folder / "config.json")
    if isinstance(config, dict) and config.get("is_encoder_decoder"):
        raise UnsupportedModelError(
            f"{folder} is an encoder-decoder: it does not go on with a text",
            "its task is translation; give a model such as Llama, Qwen or GPT-2",
        )
    check_config(folder)
    model: Any = load_stored(folder)
    if model is None:
        model = load_pretrained(folder, "AutoModelForCausalLM", "a causal language model")
    settings = model.generation_config
    if settings.bos_token_id is None:  # of nothing, something has to be gone on with
        settings.decoder_start_token_id = next(iter(_listed(settings.eos_token_id)), 0)
    return model.eval()  # type: ignore[no-any-return]


def token_ids(reading: Reading, example: Passage) -> list[int]:
    """Tokens of a text, as many as the model reads, with what the tokenizer adds by itself."""
    ids: list[int] = tokenizer_of(reading)(example.text)["input_ids"]
    return ids[: reading.max_tokens] or [0]


def example_batches(reading: Reading, examples: Sequence[Passage], size: int) -> list[Batch]:
    """Batches of similar length, shortest first."""
    order = sorted(examples, key=lambda example: (len(example.text), example.id))
    return [collate(reading, order[start : start + size]) for start in range(0, len(order), size)]


def collate(reading: Reading, examples: Sequence[Passage]) -> Batch:
    """Texts as one batch, padded at their ends.

    Args:
        reading: How texts become tokens.
        examples: At least one.

    Returns:
        ``input_ids``, ``attention_mask``, the same as ``decoder_attention_mask``, and ``labels`` (-100 where
        nothing comes next), each ``[batch, tokens]``.
    """
    rows = [token_ids(reading, example) for example in examples]
    mask = _padded([[1] * len(row) for row in rows], 0)
    return {
        "input_ids": _padded(rows, 0),
        SOURCE: mask,
        TARGETS: mask,
        "labels": _padded([[*row[1:], _IGNORED] for row in rows], _IGNORED),
    }


def run(model: nn.Module, batch: Batch, *, hidden: bool = False, attention: bool = False) -> Outputs:
    """Score what comes after every token of a batch; logits are 0 where there is padding.

    Args:
        model: The model.
        batch: Of ``collate``.
        hidden: Whether to keep the states of every layer.
        attention: Not kept by this task.
    """
    out = model(
        input_ids=batch["input_ids"],
        attention_mask=batch[SOURCE],
        use_cache=False,
        output_hidden_states=hidden,
    )
    padding = batch[SOURCE].unsqueeze(-1) == 0
    states = tuple(out.hidden_states[1:]) if hidden else ()
    return Outputs(result=out.logits.masked_fill(padding, 0.0), hidden=states)


def sequences_of(reading: Reading) -> Sequences:
    """How texts become batches, and what the dense model makes of their first halves."""
    return Sequences(
        target="text",
        size=lambda example: len(example.text),
        collate=partial(collate, reading),
        run=run,
        generated=lambda model, examples, beams: _rewritten(model, reading, examples, beams),
        own=cross_entropy,
    )


@torch.inference_mode()
def readings_of(
    model: nn.Module, reading: Reading, examples: Sequence[Passage], progress: Progress | None = None
) -> Readings:
    """What a model makes of texts, by transformers itself.

    Args:
        model: The model.
        reading: How texts become tokens.
        examples: At least one.
        progress: Where to show how far it is.
    """
    order = sorted(range(len(examples)), key=lambda number: len(examples[number].text))
    losses, counts = np.zeros(len(examples)), np.zeros(len(examples), np.int64)
    written: list[list[int]] = [[] for _ in examples]
    shown = progress or Progress(quiet=True)
    with shown.bar("the dense model on its examples" if progress else "", len(order)) as advance:
        for start in range(0, len(order), _BATCH):
            numbers = order[start : start + _BATCH]
            few = [examples[number] for number in numbers]
            losses[numbers], counts[numbers] = _losses(model, collate(reading, few))
            for number, tokens in zip(numbers, _continued(model, reading, few, LENGTH), strict=True):
                written[number] = tokens
            advance(len(numbers))
    return Readings(losses=losses, tokens=counts, continuations=as_continuations(written))


def _losses(model: nn.Module, batch: Batch) -> tuple[Any, Any]:
    """Minus log-likelihood and number of tokens of each text, ``[batch]``."""
    device = next(model.parameters()).device
    moved = {name: tensor.to(device) for name, tensor in batch.items()}
    labels = moved["labels"]
    lost = nn.functional.cross_entropy(
        run(model, moved).result.mT, labels, ignore_index=_IGNORED, reduction="none"
    )
    return lost.double().sum(-1).cpu().numpy(), (labels != _IGNORED).sum(-1).cpu().numpy()


def _continued(
    model: nn.Module, reading: Reading, examples: Sequence[Passage], most: int, beams: int = 1
) -> list[list[int]]:
    """Tokens after the first half of each text, up to and with the one that ended it."""
    prompts = [half_of(token_ids(reading, example), reading.max_tokens) for example in examples]
    width, device = max(map(len, prompts)), next(model.parameters()).device
    settings: Any = model.generation_config
    ends = _listed(settings.eos_token_id)
    fill = settings.pad_token_id if settings.pad_token_id is not None else next(iter(ends), 0)
    # Padded before, as generate() goes on at the end.
    ids = torch.tensor([[fill] * (width - len(row)) + row for row in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=device)
    found = model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=mask,
        num_beams=beams,
        do_sample=False,
        max_new_tokens=most,
        pad_token_id=fill,
    )
    return [_until(row, ends) for row in found[:, width:].tolist()]


def _rewritten(model: nn.Module, reading: Reading, examples: Sequence[Passage], beams: int) -> list[str]:
    """The texts with their second halves by the model itself."""
    most = max(len(token_ids(reading, example)) for example in examples)
    tokenizer = tokenizer_of(reading)
    written = _continued(model, reading, examples, max(1, most // 2), beams)
    prompts = (half_of(token_ids(reading, example), reading.max_tokens) for example in examples)
    whole = [[*prompt, *tokens] for prompt, tokens in zip(prompts, written, strict=True)]
    texts: list[str] = tokenizer.batch_decode(whole, skip_special_tokens=True)
    return texts


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    stop = next((number for number, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: stop + 1]


def _listed(value: Any) -> list[int]:  # noqa: ANN401 - of a configuration
    """One token, several, or none, as a list."""
    return [] if value is None else [value] if isinstance(value, int) else list(value)


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
