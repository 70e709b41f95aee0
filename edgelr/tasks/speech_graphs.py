"""The three graphs of a speech model: samples to features once a window, the encoder, the decoder.

An app needs no signal processing of its own: ``features`` takes 16 kHz PCM. It is a graph of its own since
its numbers must stay exact when the others are quantized. Every size but the batch's is fixed: Whisper reads
its whole window, whatever is in it, and that is what an NPU asks for too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgelr.tasks.encoder_decoder import (
    cross_cache,
    cross_projections,
    decoder_spec,
    encoder_spec,
    next_token,
    step_arguments,
)
from edgelr.tasks.log_mel import LogMel
from edgelr.tasks.speech_model import FEATURES
from edgelr.tasks.task import Batch, GraphSpec

_BATCH = {0: "batch"}


class SpeechEncoderGraph(nn.Module):
    """Features in, keys and values of every decoder layer out.

    Args:
        model: An encoder-decoder of speech of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = model.get_encoder()  # type: ignore[operator]
        self.decoder = model.get_decoder()  # type: ignore[operator]

    def forward(self, input_features: Tensor) -> tuple[Tensor, ...]:
        """Read ``input_features [batch, mels, frames]``.

        Returns:
            Key and value of each layer in turn, ``[batch, heads, positions, size]``.
        """
        states = self.encoder(input_features=input_features).last_hidden_state
        return cross_cache(self.decoder, states, None)


class SpeechDecoderGraph(nn.Module):
    """One token in, the scores of the next one out.

    Args:
        model: An encoder-decoder of speech of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, cache: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take one step after ``input_ids [batch, 1]``; see ``next_token``."""
        return next_token(self.model, input_ids, cache, None)


@torch.inference_mode()
def graph_specs(model: nn.Module, mel: LogMel, cases: Sequence[tuple[Tensor, Tensor]]) -> list[GraphSpec]:
    """The graphs to export, with parity cases.

    Args:
        model: An encoder-decoder of speech of transformers.
        mel: What makes its features.
        cases: Samples of whole windows ``[batch, samples]``, and tokens of the decoder for each ``[batch,
            target]``, start token first, one more than the largest of ``encoder_decoder.STEPS`` at least.
    """
    encoder, decoder = SpeechEncoderGraph(model), SpeechDecoderGraph(model)
    features: list[Batch] = [{FEATURES: mel(pcm)} for pcm, _ in cases]
    crossing = cross_projections(encoder, features[0])
    steps = step_arguments(
        [(encoder(**each), tokens) for each, (_, tokens) in zip(features, cases, strict=True)],
        lambda _, tokens, cache: decoder(tokens, cache),
    )
    return [
        GraphSpec(
            role="features",
            module=mel,
            cases=tuple({"pcm": pcm} for pcm, _ in cases),
            dynamic_axes={"pcm": _BATCH},
            outputs=(FEATURES,),
            output_axes={FEATURES: _BATCH},
            travels=False,
        ),
        encoder_spec(encoder, features, {FEATURES: _BATCH}, crossing),
        decoder_spec(decoder, steps, {}, encoder, crossing),
    ]
