"""Whether a text model can read what its tokenizer gives it."""

from __future__ import annotations

from typing import Any

from torch import nn

from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.runtime.text import parse_tokenizer
from edgelr.tasks.encoder_folder import read_tokenizer
from edgelr.tasks.task import Reading


def check_text_reach(transformer: nn.Module, reading: Reading) -> None:
    """Check that a model has an embedding for every token, and a position for each of ``max_tokens``.

    Args:
        transformer: A Hugging Face encoder.
        reading: Where its tokenizer is, and how long texts may be.

    Raises:
        UsageError: The model has fewer positions.
        UnsupportedModelError: The model has fewer tokens.
    """
    encoder: Any = transformer
    known = encoder.get_input_embeddings().weight.shape[0]
    document = read_tokenizer(reading.folder)
    highest = max(parse_tokenizer(document, reading.max_tokens).get_vocab().values())
    if highest >= known:
        raise UnsupportedModelError(
            f"the tokenizer has a token {highest}, and the model knows {known} tokens",
            "tokenizer and weights do not belong together; get the model again",
        )
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding):
        # RoBERTa and its kin count positions from after that of the padding.
        positions = table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        if reading.max_tokens > positions:
            raise UsageError(
                f"task.max_tokens: {reading.max_tokens} was asked for, the model has {positions} positions",
                f"set it to at most {positions}",
            )
