"""The two graphs of an encoder-decoder of texts: what runs once a text, and what runs once a token.

The encoder's graph also gives the keys and values that the decoder's layers look at; see
``encoder_decoder.py``. What is masked is said by additive masks ``[batch, 1, 1, source]``, which the
attention layers of transformers take as they are; its own mask code traces to dozens of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgelr.tasks.encoder_decoder import (
    cross_cache,
    cross_projections,
    decoder_spec,
    empty_cache,
    encoder_spec,
    next_token,
    step_arguments,
)
from edgelr.tasks.narrow_caches import with_narrow_caches
from edgelr.tasks.task import Batch, GraphSpec

_MASKED = -1.0e9  # added to the scores of padding; finite, so that a fully masked row is no NaN
_SOURCE = {0: "batch", 1: "source"}


class EncoderGraph(nn.Module):
    """Token ids and mask in, keys and values of every decoder layer out.

    Args:
        model: An encoder-decoder of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = model.get_encoder()  # type: ignore[operator]
        self.decoder = model.get_decoder()  # type: ignore[operator]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Read ``input_ids [batch, source]`` under ``attention_mask [batch, source]``.

        Returns:
            Key and value of each layer in turn, ``[batch, heads, source, size]``.
        """
        mask = _additive(attention_mask)
        states = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return cross_cache(self.decoder, states, mask)


class DecoderGraph(nn.Module):
    """One token in, the scores of the next one out.

    Args:
        model: An encoder-decoder of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, cache: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Take one step.

        Args:
            input_ids: The last token, ``[batch, 1]``.
            attention_mask: Of the source, ``[batch, source]``.
            cache: As of ``next_token``.

        Returns:
            As of ``next_token``.
        """
        return next_token(self.model, input_ids, cache, _additive(attention_mask))


def _additive(attention_mask: Tensor) -> Tensor:
    return (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * _MASKED


@torch.inference_mode()
def graph_specs(model: nn.Module, cases: Sequence[tuple[Batch, Tensor]]) -> list[GraphSpec]:
    """The graphs to export, with parity cases.

    Args:
        model: An encoder-decoder of transformers.
        cases: Source batches of several shapes, and tokens of the decoder for each ``[batch, target]``, start
            token first, one more than the largest of ``encoder_decoder.STEPS`` at least.
    """
    model = with_narrow_caches(model)
    encoder, decoder = EncoderGraph(model), DecoderGraph(model)
    sources = [batch for batch, _ in cases]
    crossing = cross_projections(encoder, sources[0])
    axes = {"input_ids": _SOURCE, "attention_mask": _SOURCE}
    steps = step_arguments(
        [(encoder(**batch), tokens) for batch, tokens in cases],
        lambda number, tokens, cache: decoder(tokens, sources[number]["attention_mask"], cache),
        empty_cache(model),
    )
    given = [
        {"input_ids": step.pop("input_ids"), "attention_mask": batch["attention_mask"], **step}
        for batch, step in zip(sources, steps, strict=True)
    ]
    return [
        encoder_spec(encoder, sources, axes, crossing),
        decoder_spec(decoder, given, {"attention_mask": _SOURCE}, encoder, crossing),
    ]
