"""Moonshine of transformers: samples in, one token after the other out.

Its first layers and a norm over all positions hear what a batch is padded with. Batches are padded alike for
a model and its teacher; what a model writes is what it writes of one sound alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgelr.examples import Utterance
from edgelr.runtime.transcribe import SHORTEST
from edgelr.tasks.ctc_model import SAMPLES, VALUES, longest_samples, loudness_of
from edgelr.tasks.pretrained import load_pretrained
from edgelr.tasks.sequence_losses import SOURCE, outputs_from
from edgelr.tasks.speech_folder import check_positions, check_vocabulary, tokenizer_of
from edgelr.tasks.speech_model import (
    prompt_of,
    sound_of,
    targets_of,
    token_table,
)
from edgelr.tasks.task import Batch, Outputs, Reading
from edgelr.tasks.translation_model import start_token

__all__ = ["token_table"]

MODELS = ("moonshine",)
_STRIDE = 64 * 3 * 2  # samples of a position


def load_model(folder: Path) -> nn.Module:
    """Load a Moonshine strictly, in evaluation mode, fp32.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged, is no such model, or does not say with which token a
            transcript starts.
    """
    model: Any = load_pretrained(folder, "AutoModelForSpeechSeq2Seq", "a speech model")
    model.generation_config.decoder_start_token_id = start_token(folder)
    for module in model.modules():
        if hasattr(module, "head_dim_padding"):
            module.head_dim_padding = 0  # zeros for kernels of a GPU, which change nothing but the time
    return model.eval()  # type: ignore[no-any-return]


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Check that tokenizer, feature extractor and model belong together.

    Raises:
        UsageError: The model has fewer positions than ``max_tokens``, or a language is asked for.
        UnsupportedModelError: The model has fewer tokens than the tokenizer, or reads something else.
    """
    check_vocabulary(reading, len(token_table(model).weight))
    loudness_of(reading)
    config: Any = model.config
    check_positions(reading, config.max_position_embeddings)
    prompt_of(model, reading)


def example_batches(reading: Reading, examples: Sequence[Utterance], size: int) -> list[Batch]:
    """Batches of transcripts of similar length, shortest first."""
    order = sorted(examples, key=lambda example: (len(example.text), example.id))
    return [collate(reading, order[start : start + size]) for start in range(0, len(order), size)]


def values_of(reading: Reading, example: Utterance) -> Tensor:
    """What a model reads of a sound, ``[samples]``; what is shorter than its filters ends in silence."""
    pcm = torch.from_numpy(sound_of(reading, example)[: longest_samples(reading)])
    padded = nn.functional.pad(pcm, (0, max(0, SHORTEST - len(pcm))))
    values: Tensor = loudness_of(reading)(padded[None])[0]
    return values


def collate(reading: Reading, examples: Sequence[Utterance]) -> Batch:
    """Examples as one padded batch, in their order.

    Args:
        reading: How sounds are read, and texts become tokens.
        examples: At least one.

    Returns:
        ``input_values`` and ``samples_mask`` ``[batch, samples]``; ``attention_mask`` ``[batch, positions]``;
        ``decoder_input_ids``, ``labels`` (-100 for padding) and ``decoder_attention_mask`` ``[batch,
        target]``.
    """
    sounds = [values_of(reading, each) for each in examples]
    lengths = torch.tensor([len(sound) for sound in sounds])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    positions = positions_of(mask.shape[1])
    return {
        VALUES: nn.utils.rnn.pad_sequence(sounds, batch_first=True),
        SAMPLES: mask,
        SOURCE: mask[:, ::_STRIDE][:, :positions],  # as in transformers
        **targets_of(reading, examples, positions),
    }


def positions_of(samples: int) -> int:
    """How many positions the encoder has for so many samples, at least ``SHORTEST``."""
    for kernel, stride in ((127, 64), (7, 3), (3, 2)):
        samples = (samples - kernel) // stride + 1
    return samples


def run(model: nn.Module, batch: Batch, *, hidden: bool = False, attention: bool = False) -> Outputs:
    """Score the target tokens of a batch; logits are 0 where there is padding.

    Args:
        model: The model.
        batch: Of ``collate``.
        hidden: Whether to keep the states of every layer, first the encoder's, then the decoder's.
        attention: Whether to keep what the decoder looks at.
    """
    out = model(
        input_values=batch[VALUES],
        attention_mask=batch[SAMPLES],
        decoder_input_ids=batch["decoder_input_ids"],
        use_cache=False,
        output_hidden_states=hidden,
        output_attentions=attention,
    )
    return outputs_from(out, batch, hidden=hidden, attention=attention)


@torch.inference_mode()
def transcribed(
    model: nn.Module, reading: Reading, examples: Sequence[Utterance], beams: int = 1
) -> list[str]:
    """Transcribe examples one after the other, by transformers' own search."""
    device, tokenizer = next(model.parameters()).device, tokenizer_of(reading)
    texts = []
    for example in examples:
        ids = model.generate(  # type: ignore[operator]
            input_values=values_of(reading, example)[None].to(device),
            num_beams=beams,
            do_sample=False,
            # Without the start; max_length would count less than a max_new_tokens of the model's own.
            max_new_tokens=reading.max_tokens - 1,
        )
        texts.append(str(tokenizer.decode(ids[0], skip_special_tokens=True)).strip())
    return texts
