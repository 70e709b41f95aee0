"""The model of the task ``sentence-embedding``: a transformer, pooling and unit length.

The folder may be a plain Hugging Face one or have the sentence-transformers layout, whose pooling and
normalisation are then used; otherwise mean pooling and unit length.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgelr.tasks.encoder_folder import Pooling, load_transformer, read_pooling
from edgelr.tasks.task import Batch, Outputs


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
