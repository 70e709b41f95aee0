"""The three graphs of a speech model: samples to features once a window, the encoder, the decoder.

An app needs no signal processing of its own: ``features`` takes 16 kHz PCM. It is a graph of its own since
its numbers must stay exact when the others are quantized. Of Whisper every size but the batch's is fixed: it
reads its whole window, whatever is in it, and that is what an NPU asks for too. Moonshine reads any number of
samples, and what is shorter costs less.
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


class WaveformEncoderGraph(SpeechEncoderGraph):
    """Samples in, keys and values of every decoder layer out.

    Args:
        model: An encoder-decoder of transformers that reads samples.
    """

    def forward(self, input_values: Tensor) -> tuple[Tensor, ...]:
        """Read ``input_values [batch, samples]``; see ``SpeechEncoderGraph``."""
        states = self.encoder(input_values).last_hidden_state
        return cross_cache(self.decoder, states, None)


def graph_specs(model: nn.Module, mel: LogMel, cases: Sequence[tuple[Tensor, Tensor]]) -> list[GraphSpec]:
    """The graphs to export, with parity cases.

    Args:
        model: An encoder-decoder of speech of transformers.
        mel: What makes its features.
        cases: Samples of whole windows ``[batch, samples]``, and tokens of the decoder for each ``[batch,
            target]``, start token first, one more than the largest of ``encoder_decoder.STEPS`` at least.
    """
    return _specs(model, SpeechEncoderGraph(model), mel, FEATURES, _BATCH, cases)


def waveform_specs(
    model: nn.Module, loudness: nn.Module, name: str, cases: Sequence[tuple[Tensor, Tensor]]
) -> list[GraphSpec]:
    """The graphs to export of a model that reads any number of samples, with parity cases.

    Args:
        model: An encoder-decoder of transformers that reads samples.
        loudness: What is done with samples before.
        name: Of the encoder's input.
        cases: See ``graph_specs``; of different numbers of samples.
    """
    return _specs(model, WaveformEncoderGraph(model), loudness, name, {**_BATCH, 1: "samples"}, cases)


@torch.inference_mode()
def _specs(
    model: nn.Module,
    encoder: SpeechEncoderGraph,
    front: nn.Module,
    name: str,
    axes: dict[int, str],
    cases: Sequence[tuple[Tensor, Tensor]],
) -> list[GraphSpec]:
    decoder = SpeechDecoderGraph(model)
    read: list[Batch] = [{name: front(pcm)} for pcm, _ in cases]
    crossing = cross_projections(encoder, read[0])
    steps = step_arguments(
        [(encoder(**each), tokens) for each, (_, tokens) in zip(read, cases, strict=True)],
        lambda _, tokens, cache: decoder(tokens, cache),
        empty_cache(model),
    )
    return [
        features_spec(front, name, axes, [pcm for pcm, _ in cases]),
        encoder_spec(encoder, read, {name: axes}, crossing),
        decoder_spec(decoder, steps, {}, encoder, crossing),
    ]


def features_spec(front: nn.Module, name: str, axes: dict[int, str], cases: Sequence[Tensor]) -> GraphSpec:
    """The graph that makes of samples what a model reads.

    Args:
        front: What is traced.
        name: Of its output.
        axes: Dynamic axes of its input and, where there are as many, of its output.
        cases: Samples ``[batch, samples]``.
    """
    return GraphSpec(
        role="features",
        module=front,
        cases=tuple({"pcm": pcm} for pcm in cases),
        dynamic_axes={"pcm": axes},
        outputs=(name,),
        output_axes={name: axes},
        travels=False,
    )
