"""Task ``sentence-embedding``: texts to unit vectors, by any Hugging Face encoder.

The folder may be a plain Hugging Face one or have the sentence-transformers layout, whose pooling and
normalisation are then used; otherwise mean pooling and unit length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.examples import Example
from edgelr.recipe.schema import Distill
from edgelr.tasks.encoder_folder import Pooling, load_transformer, read_pooling, read_tokenizer
from edgelr.tasks.task import Batch, GraphSpec, Outputs

_CONTRASTIVE_SCALE = 20.0  # inverse temperature that sentence-transformers trains with


class SentenceEncoder(nn.Module):
    """A transformer, pooling over its unmasked tokens, and unit length.

    Args:
        transformer: A Hugging Face encoder.
        pooling: How token vectors become one.
        normalize: Whether the result has unit length.
    """

    def __init__(self, transformer: nn.Module, pooling: Pooling, *, normalize: bool) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling
        self.normalize = normalize

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed token ids ``[batch, tokens]``; the mask is 1 for real tokens.

        Returns:
            ``[batch, dim]``.
        """
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.pool(states, attention_mask)

    def pool(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Token vectors ``[batch, tokens, dim]`` to ``[batch, dim]``."""
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        match self.pooling:
            case "mean":
                pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            case "max":
                pooled = states.masked_fill(mask == 0, torch.finfo(states.dtype).min).max(1).values
            case "cls":
                pooled = states[:, 0]
        return nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled


def load_model(folder: Path) -> nn.Module:
    """Load the encoder with its pooling, strictly.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged, does not fit its configuration, or is unknown.
    """
    layout = read_pooling(folder)
    return SentenceEncoder(load_transformer(folder), layout.pooling, normalize=layout.normalize).eval()


def tokenizer_json(folder: Path) -> str:
    """The folder's fast tokenizer as JSON.

    Raises:
        UnsupportedModelError: There is no tokenizer, or none that can be written so.
    """
    return read_tokenizer(folder)


def check_reach(model: nn.Module, tokenizer_json: str, max_tokens: int) -> None:
    """Check that the model has an embedding for every token, and a position for each of ``max_tokens``.

    Raises:
        UsageError: The model has fewer positions.
        UnsupportedModelError: The model has fewer tokens.
    """
    from edgelr.runtime.text import parse_tokenizer

    assert isinstance(model, SentenceEncoder)
    transformer: Any = model.transformer
    known = transformer.get_input_embeddings().weight.shape[0]
    highest = max(parse_tokenizer(tokenizer_json, max_tokens).get_vocab().values())
    if highest >= known:
        raise UnsupportedModelError(
            f"the tokenizer has a token {highest}, and the model knows {known} tokens",
            "tokenizer and weights do not belong together; get the model again",
        )
    table = getattr(getattr(transformer, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding):
        # RoBERTa and its kin count positions from after that of the padding.
        positions = table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        if max_tokens > positions:
            raise UsageError(
                f"task.max_tokens: {max_tokens} was asked for, and the model has {positions} positions",
                f"set it to at most {positions}",
            )


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
    from edgelr.runtime.text import batch_tokens, parse_tokenizer

    tokenizer = parse_tokenizer(tokenizer_json, max_tokens)
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(texts)), key=lambda index: (lengths[index], index))
    batches = []
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        arrays = batch_tokens(tokenizer, [texts[index] for index in indices])
        batches.append((indices, {name: torch.from_numpy(array) for name, array in arrays.items()}))
    return batches


def run(model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
    """Embed a batch; with ``hidden``, also every layer's states."""
    assert isinstance(model, SentenceEncoder)
    if not hidden:
        return Outputs(result=model(batch["input_ids"], batch["attention_mask"]))
    out = model.transformer(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
    )
    result = model.pool(out.last_hidden_state, batch["attention_mask"])
    return Outputs(result=result, hidden=tuple(out.hidden_states[1:]))


def distance(result: Tensor, reference: Tensor) -> Tensor:
    """1 - cosine, ``[batch]``."""
    return 1 - nn.functional.cosine_similarity(result, reference, dim=-1)


def probe(result: Tensor) -> Tensor:
    """A random direction of each embedding: ``distance`` grows by half the square of what moves along it.

    Only directions across the embedding count: along it, no cosine changes.
    """
    unit = nn.functional.normalize(result.detach(), dim=-1)
    direction = torch.randn_like(unit)
    across = direction - (direction * unit).sum(-1, keepdim=True) * unit
    scalar: Tensor = (result * across / result.detach().norm(dim=-1, keepdim=True)).sum()
    return scalar


def distillation_loss(student: Outputs, teacher: Outputs, batch: Batch, weights: Distill) -> Tensor:
    """Weighted sum of embedding cosine, similarity matrix and hidden states.

    The similarity matrix ``[batch, batch]`` is what retrieval ranks by; hidden states, relative to the
    teacher's energy of the layer, give every layer a target of its own.

    Source:
        Reimers and Gurevych, Making Monolingual Sentence Embeddings Multilingual (EMNLP 2020);
        Jiao et al., TinyBERT (2020), eq. 8, for hidden states.
    """
    loss = weights.embedding * distance(student.result, teacher.result).mean()
    similar = student.result @ student.result.T - teacher.result @ teacher.result.T
    loss = loss + weights.similarity * similar.square().mean()
    if weights.hidden and student.hidden:
        mask = batch["attention_mask"].unsqueeze(-1).to(student.result.dtype)
        errors = [
            ((mine - theirs) * mask).square().sum() / (theirs * mask).square().sum()
            for mine, theirs in zip(student.hidden, teacher.hidden, strict=True)
        ]
        loss = loss + weights.hidden * torch.stack(errors).mean()
    return loss


def pair_loss(queries: Tensor, passages: Tensor) -> Tensor:
    """Contrastive loss: each query's own passage against the others of the batch.

    Source:
        van den Oord et al., Representation Learning with Contrastive Predictive Coding (2018), eq. 4.
    """
    scores = nn.functional.normalize(queries, dim=-1) @ nn.functional.normalize(passages, dim=-1).T
    labels = torch.arange(len(queries), device=queries.device)
    return nn.functional.cross_entropy(scores * _CONTRASTIVE_SCALE, labels)


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


def graphs(model: nn.Module, tokenizer_json: str, texts: Sequence[str], max_tokens: int) -> list[GraphSpec]:
    """One graph: token ids and mask in, embedding out; pooling and normalisation are inside.

    The parity cases are a padded batch of two (traced: sizes 0 and 1 would be taken for constants), one text
    alone, and a batch of three that reaches the longest length.
    """
    from edgelr.runtime.text import batch_tokens, parse_tokenizer

    tokenizer = parse_tokenizer(tokenizer_json, max_tokens)
    by_length = sorted(texts, key=lambda text: len(tokenizer.encode(text).ids))
    longest = " ".join(texts[: max(1, max_tokens // 4)])
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
