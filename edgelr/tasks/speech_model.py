"""The model of the task ``automatic-speech-recognition``: Whisper of transformers, and its batches.

A batch has the features of the dense model's whole window. A model whose window was cut reads the first part
of them, so that it and its teacher can be given the same batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.examples import Utterance
from edgelr.runtime.audio import SAMPLE_RATE, read_audio
from edgelr.tasks.pretrained import load_pretrained, read_json
from edgelr.tasks.sequence_losses import TARGETS, outputs_from
from edgelr.tasks.speech_folder import HOP, check_positions, check_vocabulary, features_of, tokenizer_of
from edgelr.tasks.task import Batch, Outputs, Reading
from edgelr.tasks.translation_model import start_token

FEATURES = "input_features"
_IGNORED = -100  # of labels: what is no target
_STRIDE = 2  # frames of a position of Whisper's encoder
_MODELS = ("whisper",)
_START = "<|startoftranscript|>"


class Positions(nn.Embedding):
    """The encoder's table of positions: all rows are read at once, so that a graph has it as a constant.

    With a ``forward`` of its own it is no layer to be factored, whatever ``compress.vocabulary`` says.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As of any embedding."""
        return super().forward(input)


def load_model(folder: Path) -> nn.Module:
    """Load an encoder-decoder of speech strictly, in evaluation mode, fp32.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged, is no such model, or does not say with which token a
            transcript starts.
    """
    config = read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in _MODELS:
        raise UnsupportedModelError(
            f"{folder} is a model of type {kind!r}, which cannot be taken for speech yet",
            f"give one of {', '.join(_MODELS)}",
        )
    model: Any = load_pretrained(folder, "AutoModelForSpeechSeq2Seq", "a speech model")
    model.generation_config.decoder_start_token_id = start_token(folder)
    _set_positions(model, window_positions(model))
    return model.eval()  # type: ignore[no-any-return]


def shorten_window(model: nn.Module, seconds: float) -> None:
    """Cut the encoder's table of positions, in place: it then reads that much sound, and no more.

    Args:
        model: A Whisper.
        seconds: The window to be.

    Raises:
        UsageError: The model's window is shorter.
    """
    encoder = model.get_encoder()  # type: ignore[operator]
    positions = round(seconds * SAMPLE_RATE / (_STRIDE * HOP))
    if positions > window_positions(model):
        own = window_positions(model) * _STRIDE * HOP / SAMPLE_RATE
        raise UsageError(
            f"task.window_s: {seconds:g} s were asked for, the model's window is {own:g} s",
            f"set it to at most {own:g}, or leave it out",
        )
    _set_positions(model, positions)
    encoder.config.max_source_positions = model.config.max_source_positions = positions  # type: ignore[union-attr]


def _set_positions(model: nn.Module, count: int) -> None:
    encoder = model.get_encoder()  # type: ignore[operator]
    weight = encoder.embed_positions.weight[:count].detach().clone()
    encoder.embed_positions = Positions(
        count, weight.shape[1], _weight=weight, _freeze=True
    )  # as in transformers


def window_positions(model: nn.Module) -> int:
    """Positions of the encoder."""
    return int(model.config.max_source_positions)  # type: ignore[union-attr, arg-type]


def frames_of(model: nn.Module) -> int:
    """Frames of features that the encoder reads."""
    return _STRIDE * window_positions(model)


def window_samples(model: nn.Module) -> int:
    """Samples of 16 kHz that the encoder reads."""
    return frames_of(model) * HOP


def prompt_of(model: nn.Module, reading: Reading) -> list[int]:
    """What every transcript goes on with after the start token: language, task, no timestamps.

    Args:
        model: A Whisper.
        reading: Its language, for a model of many.

    Raises:
        UsageError: The model needs a language and none is given, or knows no such language; or it knows one
            only, and one is given.
    """
    config: Any = model.generation_config
    plain = getattr(config, "no_timestamps_token_id", None)
    last = [] if plain is None else [int(plain)]
    languages = getattr(config, "lang_to_id", None)
    if not languages or getattr(config, "is_multilingual", True) is False:
        if reading.source_language is not None:
            raise UsageError(
                f"task.language: {reading.source_language!r} was asked for, "
                f"and the model of {reading.folder} knows one language only",
                "leave it out",
            )
        return last
    code = f"<|{reading.source_language}|>"
    if code not in languages:
        known = ", ".join(sorted(name.strip("<|>") for name in languages))
        found = "no language is given" if reading.source_language is None else f"it knows no {code}"
        raise UsageError(
            f"task.language: the model of {reading.folder} hears several languages, and {found}",
            f"set it to one of: {known}",
        )
    task = (getattr(config, "task_to_id", None) or {}).get("transcribe")
    return [int(languages[code]), *([] if task is None else [int(task)]), *last]


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Check that tokenizer, feature extractor and model belong together.

    Raises:
        UsageError: The model has fewer target positions than ``max_tokens``, or another language.
        UnsupportedModelError: The model has fewer tokens than the tokenizer, or reads other features.
    """
    check_vocabulary(reading, len(token_table(model).weight))
    start = start_token(reading.folder)
    name = tokenizer_of(reading).convert_ids_to_tokens(start)
    if name != _START:
        raise UnsupportedModelError(
            f"the tokenizer calls the first token of transcripts, {start}, {name!r}, not {_START}",
            "tokenizer and weights do not belong together; get the model again",
        )
    config: Any = model.config
    mels = features_of(reading).filters.shape[0]
    if mels != config.num_mel_bins:
        raise UnsupportedModelError(
            f"the feature extractor gives {mels} mel bands, and the model reads {config.num_mel_bins}",
            "feature extractor and weights do not belong together; get the model again",
        )
    check_positions(reading, config.max_target_positions)
    prompt_of(model, reading)


def token_table(model: nn.Module) -> Any:  # noqa: ANN401 - a module whose weight is a tensor
    """The layer that looks the transcript's tokens up, dense or factored."""
    return model.get_decoder().get_input_embeddings()  # type: ignore[operator]


def sound_of(reading: Reading, example: Utterance) -> NDArray[np.float32]:
    """Samples of an example, ``[samples]`` of 16 kHz."""
    assert reading.sounds is not None, "the task reads sounds"
    return read_audio(reading.sounds / example.audio)


def example_batches(reading: Reading, examples: Sequence[Utterance], size: int) -> list[Batch]:
    """Batches of transcripts of similar length, shortest first."""
    order = sorted(examples, key=lambda example: (len(example.text), example.id))
    return [collate(reading, order[start : start + size]) for start in range(0, len(order), size)]


def collate(reading: Reading, examples: Sequence[Utterance]) -> Batch:
    """Examples as one padded batch, in their order.

    Args:
        reading: How sounds become features, and texts tokens.
        examples: At least one.

    Returns:
        ``input_features`` ``[batch, mels, frames]`` of the dense model's whole window; ``decoder_input_ids``,
        ``labels`` (-100 for padding) and ``decoder_attention_mask`` ``[batch, target]``.
    """
    samples = window_samples(_dense(reading))
    return {
        FEATURES: features_of(reading)(padded_sounds(reading, examples, samples)),
        **targets_of(reading, examples),
    }


def targets_of(reading: Reading, examples: Sequence[Utterance], positions: int | None = None) -> Batch:
    """The transcripts of examples, padded.

    Args:
        reading: How texts become tokens.
        examples: At least one.
        positions: Of the encoder, where these have a mask: targets are not as many. A mask belongs to
            whatever has its shape.

    Returns:
        ``decoder_input_ids``, ``labels`` (-100 for padding) and ``decoder_attention_mask`` ``[batch,
        target]``.
    """
    model = _dense(reading)
    tokenizer, start = tokenizer_of(reading), start_token(reading.folder)
    end = int(model.generation_config.eos_token_id)
    prompt = prompt_of(model, reading)
    room = reading.max_tokens - len(prompt) - 1
    texts = [tokenizer(each.text, add_special_tokens=False)["input_ids"][:room] for each in examples]
    rows = [[start, *prompt, *ids, end] for ids in texts]
    length = max(map(len, rows)) - 1
    length += length == positions
    return {
        "decoder_input_ids": _padded([row[:-1] for row in rows], length, end),
        TARGETS: _padded([[1] * (len(row) - 1) for row in rows], length, 0),
        "labels": _padded([row[1:] for row in rows], length, _IGNORED),
    }


@functools.lru_cache(maxsize=2)
def _dense(reading: Reading) -> Any:  # noqa: ANN401 - transformers is not typed
    """The dense model without its weights: its window, and how it generates."""
    from transformers import AutoConfig, AutoModelForSpeechSeq2Seq, GenerationConfig

    config = AutoConfig.from_pretrained(reading.folder, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForSpeechSeq2Seq.from_config(config)
    if (reading.folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(reading.folder, local_files_only=True)
    return model


def padded_sounds(reading: Reading, examples: Sequence[Utterance], samples: int) -> Tensor:
    """Windows of sound ``[batch, samples]``, what is shorter filled with silence."""
    padded = np.zeros((len(examples), samples), np.float32)
    for row, example in zip(padded, examples, strict=True):
        sound = sound_of(reading, example)[:samples]
        row[: len(sound)] = sound
    return torch.from_numpy(padded)


def _padded(rows: Sequence[Sequence[int]], width: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def run(model: nn.Module, batch: Batch, *, hidden: bool = False, attention: bool = False) -> Outputs:
    """Score the target tokens of a batch; logits are 0 where there is padding.

    Args:
        model: The model; where its window is shorter than that of the features, it reads their first part.
        batch: Of ``collate``.
        hidden: Whether to keep the states of every layer, first the encoder's, then the decoder's.
        attention: Whether to keep what the decoder looks at.
    """
    out = model(
        input_features=batch[FEATURES][..., : frames_of(model)],
        decoder_input_ids=batch["decoder_input_ids"],
        use_cache=False,
        output_hidden_states=hidden,
        output_attentions=attention,
    )
    return outputs_from(out, batch, hidden=hidden, attention=attention)
