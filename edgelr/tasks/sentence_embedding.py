"""Task ``sentence-embedding``: texts to unit vectors, by any Hugging Face encoder.

The folder may be a plain Hugging Face one or have the sentence-transformers layout, whose pooling and
normalisation are then used; otherwise mean pooling and unit length.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.examples import Example
from edgelr.lowrank.checkpoint import check_finite
from edgelr.recipe.schema import Distill
from edgelr.tasks.task import Batch, GraphSpec, Outputs

Pooling = Literal["mean", "cls", "max"]

# Parts of a checkpoint that an encoder does not use: heads of its pre-training, and buffers of old releases.
_UNUSED = ("pooler.", "cls.", "lm_head.", "position_ids", "embeddings.position_ids")
# What transformers raises for a file it cannot read or a configuration it does not know; a pickle that
# holds more than tensors is refused (UnpicklingError), never run.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
)
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
    pooling, normalize = _pooling(folder)
    return SentenceEncoder(_load_transformer(folder), pooling, normalize=normalize).eval()


def _load_transformer(folder: Path) -> nn.Module:
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ImportError as error:
        raise MissingRequirementError(
            "transformers is not installed", "pip install 'edgelr[build]'"
        ) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            attn_implementation="sdpa",
        )
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedModelError(
            f"{folder} cannot be loaded as an encoder: {reason}",
            "the checkpoint is damaged or of a kind that transformers does not know",
        ) from error
    missing = [key for key in info["missing_keys"] if not key.startswith(_UNUSED)]
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith(_UNUSED)]
    mismatched = [str(entry[0]) for entry in info["mismatched_keys"]]
    for problem, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched)):
        if keys:
            raise UnsupportedModelError(
                f"{folder}: {len(keys)} tensors of the checkpoint are {problem}: "
                f"{', '.join(sorted(keys)[:4])}",
                "config.json and the weights do not belong together; get the checkpoint again",
            )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # pools for pre-training; never part of a sentence embedding
    check_finite(model)
    return model  # type: ignore[no-any-return]


def _pooling(folder: Path) -> tuple[Pooling, bool]:
    """Read the sentence-transformers layout, when the folder has it."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return "mean", True
    modules = json.loads(listing.read_text(encoding="utf-8"))
    kinds = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in modules}
    if unknown := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise UnsupportedModelError(f"{listing}: the module kind {', '.join(unknown)} is not supported")
    if "Pooling" not in kinds:
        return "mean", "Normalize" in kinds
    config = json.loads((folder / kinds["Pooling"] / "config.json").read_text(encoding="utf-8"))
    names: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
    }
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    if len(chosen) != 1 or chosen[0] not in names:
        raise UnsupportedModelError(
            f"{folder / kinds['Pooling']}: pooling {', '.join(chosen) or 'none'} is not supported",
            f"supported is one of {', '.join(names)}",
        )
    return names[chosen[0]], "Normalize" in kinds


def tokenizer_json(folder: Path) -> str:
    """The folder's fast tokenizer as JSON.

    Raises:
        UnsupportedModelError: There is no tokenizer, or none that can be written so.
    """
    ready = folder / "tokenizer.json"
    if ready.is_file():
        return ready.read_text(encoding="utf-8")
    from transformers import AutoTokenizer

    try:
        return str(AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.to_str())
    except (OSError, ValueError, AttributeError) as error:
        raise UnsupportedModelError(
            f"{folder} has no usable tokenizer: {error}", "add its tokenizer.json"
        ) from error


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
