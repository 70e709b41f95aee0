"""Task ``sentence-embedding``: texts to unit vectors, by any Hugging Face encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgelr.errors import DataError
from edgelr.examples import Example
from edgelr.metrics.retrieval import sentence_embedding_scores
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.text import INDEX, batch_tokens, pad_id, parse_tokenizer
from edgelr.tasks.encoder_folder import read_tokenizer
from edgelr.tasks.order import batch_of_step
from edgelr.tasks.sentence_encoder import SentenceEncoder, distance, load_model, run
from edgelr.tasks.sentence_losses import step_loss
from edgelr.tasks.task import Arrays, Batch, GraphSpec, Loss, Reading, Score
from edgelr.tasks.text_reach import check_text_reach

__all__ = ["distance", "load_model", "run"]

EXAMPLE = Example
SHRINKS_HEADS = "*"


def tokenizer_json(folder: Path) -> str:
    """The folder's fast tokenizer as JSON.

    Raises:
        UnsupportedModelError: There is no tokenizer, or none that can be written so.
    """
    return read_tokenizer(folder)


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Check that the model has an embedding for every token, and a position for each of ``max_tokens``.

    Raises:
        UsageError: The model has fewer positions.
        UnsupportedModelError: The model has fewer tokens.
    """
    assert isinstance(model, SentenceEncoder)
    check_text_reach(model.transformer, reading)


def token_table(model: nn.Module) -> nn.Module:
    """The transformer's word embeddings."""
    assert isinstance(model, SentenceEncoder)
    transformer: Any = model.transformer
    table: nn.Module = transformer.get_input_embeddings()
    return table


def texts(examples: Sequence[Example]) -> tuple[str, ...]:
    """Passages and queries, in the order of the examples."""
    return tuple(text for example in examples for text in (example.query, example.passage) if text)


def batches(tokenizer_json: str, texts: Sequence[str], *, max_tokens: int, size: int) -> list[Batch]:
    """Batches of similar length, shortest first; the order of the texts within them is not the given one."""
    return [batch for _, batch in _ordered_batches(tokenizer_json, texts, max_tokens, size)]


def _ordered_batches(
    tokenizer_json: str, texts: Sequence[str], max_tokens: int, size: int
) -> list[tuple[list[int], Batch]]:
    tokenizer = parse_tokenizer(tokenizer_json, max_tokens)
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(texts)), key=lambda index: (lengths[index], index))
    batches = []
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        arrays = batch_tokens(tokenizer, [texts[index] for index in indices])
        batches.append((indices, {name: torch.from_numpy(array) for name, array in arrays.items()}))
    return batches


def seen_tokens(reading: Reading, examples: Sequence[Example]) -> set[int]:
    """Tokens of the texts, and those that the tokenizer adds by itself."""
    tokenizer = parse_tokenizer(tokenizer_json(reading.folder), reading.max_tokens)
    seen = set(tokenizer.get_added_tokens_decoder())
    for encoding in tokenizer.encode_batch(list(texts(examples))):
        seen.update(encoding.ids)
    # What pads a batch is looked up too.
    return seen | {pad_id(tokenizer)}


def example_batches(reading: Reading, examples: Sequence[Example], size: int) -> list[Batch]:
    """Queries and passages in batches of similar length, shortest first."""
    return batches(tokenizer_json(reading.folder), texts(examples), max_tokens=reading.max_tokens, size=size)


def probe(result: Tensor) -> Tensor:
    """A random direction of each embedding: ``distance`` grows by half the square of what moves along it.

    Only directions across the embedding count: along it, no cosine changes.
    """
    unit = nn.functional.normalize(result.detach(), dim=-1)
    direction = torch.randn_like(unit)
    across = direction - (direction * unit).sum(-1, keepdim=True) * unit
    scalar: Tensor = (result * across / result.detach().norm(dim=-1, keepdim=True)).sum()
    return scalar


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Example],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """Distillation on all texts; see ``Task``.

    Where the contrastive loss has weight, every other step is of pairs, which are distilled too: no text is
    computed only for it.

    Raises:
        DataError: There is a task loss, and no pair to compute it on.
    """
    longest = min(settings.max_tokens or reading.max_tokens, reading.max_tokens)
    tokenizer = parse_tokenizer(tokenizer_json(reading.folder), longest)
    device = next(teacher.parameters()).device
    all_texts = texts(examples)
    lengths = tuple(len(text) for text in all_texts)
    pairs = _pairs(examples) if settings.task_loss > 0 else []
    pair_lengths = tuple(len(passage) for _, passage in pairs)

    def batch(chosen: Sequence[str]) -> Batch:
        arrays = batch_tokens(tokenizer, chosen)
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}

    def loss(model: nn.Module, number: int) -> Tensor:
        turn, of_pairs = divmod(number, 2) if pairs else (number, 0)
        if of_pairs:
            chosen = [pairs[index] for index in batch_of_step(pair_lengths, settings.batch, seed, turn)]
            queries, passages = zip(*chosen, strict=True)
            return step_loss(model, teacher, batch(passages), batch(queries), settings)
        own = [all_texts[index] for index in batch_of_step(lengths, settings.batch, seed, turn)]
        return step_loss(model, teacher, batch(own), None, settings)

    return loss


def _pairs(examples: Sequence[Example]) -> list[tuple[str, str]]:
    pairs = [(example.query, example.passage) for example in examples if example.query]
    if len(pairs) < 2:
        raise DataError(
            f"finetune.task_loss needs pairs to train on; of {len(examples)} examples {len(pairs)} are pairs",
            "give more examples a query, or leave finetune.task_loss out",
        )
    return pairs


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Example]
) -> Callable[[nn.Module], float]:
    """Mean cosine to the dense model's embeddings."""
    score = scorer(dense, reading, examples)
    return lambda model: score(model)["cosine"]


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Example]) -> Score:
    """Mean of every metric, as ``validate`` measures them of packages."""
    tokenizer = tokenizer_json(reading.folder)
    sides = _sides(examples)

    def embedded(model: nn.Module) -> list[NDArray[np.float32]]:
        return [embed(model, tokenizer, side, reading.max_tokens) for side in sides]

    references = embedded(dense)

    def score(model: nn.Module) -> dict[str, float]:
        own = references if model is dense else embedded(model)
        found = sentence_embedding_scores(*own, *references)
        return {metric: scores.value for metric, scores in found.items()}

    return score


def _sides(examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    return [example.query or "" for example in examples], [example.passage for example in examples]


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """Where texts are cut."""
    del model
    return {"max_tokens": reading.max_tokens}


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Example],
    progress: Progress,
) -> Arrays:
    """Write tokenizer and index of the passages; return the dense model's embeddings; see ``Task``."""
    tokenizer = tokenizer_json(reading.folder)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    queries, passages = _sides(examples)
    work = {
        "index": (model, passages),
        "dense_queries": (dense, queries),
        "dense_passages": (dense, passages),
    }
    made: Arrays = {}
    with progress.bar("embedding the examples", len(work)) as advance:
        for name, (chosen, side) in work.items():
            made[name] = embed(chosen, tokenizer, side, reading.max_tokens).astype(np.float16)
            advance()
    write_arrays(folder / INDEX, {"passages": made.pop("index")})
    return made


@torch.inference_mode()
def embed(
    model: nn.Module, tokenizer_json: str, texts: Sequence[str], max_tokens: int
) -> NDArray[np.float32]:
    """Embed texts in batches of similar length; rows are in the order of ``texts``, ``[n, dim]``."""
    device = next(model.parameters()).device
    rows: list[tuple[list[int], NDArray[np.float32]]] = []
    for indices, batch in _ordered_batches(tokenizer_json, texts, max_tokens, 32):
        result = run(model, {name: tensor.to(device) for name, tensor in batch.items()}).result
        rows.append((indices, result.float().cpu().numpy()))
    embeddings = np.empty((len(texts), rows[0][1].shape[1]), np.float32)
    for indices, vectors in rows:
        embeddings[indices] = vectors
    return embeddings


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Example]) -> list[GraphSpec]:
    """One graph: token ids and mask in, embedding out; pooling and normalisation are inside.

    The parity cases are a padded batch of two (traced: sizes 0 and 1 would be taken for constants), one text
    alone, and a batch of three that reaches the longest length.
    """
    tokenizer = parse_tokenizer(tokenizer_json(reading.folder), reading.max_tokens)
    listed = texts(examples)
    by_length = sorted(listed, key=lambda text: len(tokenizer.encode(text).ids))
    longest = " ".join(listed[: max(1, reading.max_tokens // 4)])
    middle = by_length[len(by_length) // 2]
    groups = ([by_length[0], middle], [middle], [by_length[0], longest, middle])
    cases = tuple(
        {name: torch.from_numpy(array) for name, array in batch_tokens(tokenizer, group).items()}
        for group in groups
    )
    axes = {0: "batch", 1: "tokens"}
    return [
        GraphSpec(
            role="model",
            module=model,
            cases=cases,
            dynamic_axes={"input_ids": axes, "attention_mask": axes},
            outputs=("embedding",),
            output_axes={"embedding": {0: "batch"}},
        )
    ]
