"""Models that write a letter, or nothing, for every 20 ms of sound: wav2vec2 and HuBERT, with CTC."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Utterance
from edgelr.runtime.audio import SAMPLE_RATE
from edgelr.runtime.ctc import Letters, likeliest
from edgelr.tasks.pretrained import load_pretrained
from edgelr.tasks.sequence_losses import SOURCE, TARGETS
from edgelr.tasks.speech_folder import of_folder
from edgelr.tasks.speech_model import sound_of
from edgelr.tasks.task import Batch, Outputs, Reading

VALUES, SAMPLES = "input_values", "samples_mask"
HIDDEN = "mask_time_indices"  # positions that are not heard
_IGNORED = -100  # of labels: what is no target
_LONGEST_S = 30
_PARITY_S = (1.0, 0.5, 1.5)  # lengths of the parity cases
_JOINED = 16  # examples that they are made of
MODELS = ("wav2vec2", "hubert")


def load_model(folder: Path) -> nn.Module:
    """Load a CTC model strictly, in evaluation mode, fp32.

    The weights of its positional convolution are a product of a norm and a direction, which is multiplied
    out: as a plain convolution it can be factored and exported like any other.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged, or has no head for CTC.
    """
    model = load_pretrained(folder, "AutoModelForCTC", "a CTC model").eval()
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return model


@functools.lru_cache(maxsize=4)
def tokenizer_of(reading: Reading) -> Any:  # noqa: ANN401 - transformers is not typed
    """The folder's tokenizer.

    Raises:
        UnsupportedModelError: There is none.
    """
    from transformers import AutoTokenizer

    return of_folder(reading.folder, AutoTokenizer, "tokenizer")


@functools.lru_cache(maxsize=4)
def _extractor_of(reading: Reading) -> Any:  # noqa: ANN401 - transformers is not typed
    from transformers import AutoFeatureExtractor

    extractor = of_folder(reading.folder, AutoFeatureExtractor, "feature extractor")
    if type(extractor).__name__ != "Wav2Vec2FeatureExtractor" or extractor.sampling_rate != SAMPLE_RATE:
        raise UnsupportedModelError(
            f"{reading.folder} has a {type(extractor).__name__} of {extractor.sampling_rate} Hz, "
            f"not a Wav2Vec2FeatureExtractor of {SAMPLE_RATE} Hz",
            "the feature extractor and the model do not belong together; get the model again",
        )
    return extractor


class Loudness(nn.Module):
    """PCM to what the model reads: as it is, or of mean 0 and variance 1.

    Args:
        normalize: Whether it changes anything.
    """

    def __init__(self, *, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, pcm: Tensor) -> Tensor:
        """``[batch, samples]`` to the same."""
        if not self.normalize:
            return pcm * 1.0
        centered = pcm - pcm.mean(-1, keepdim=True)
        return centered / ((centered * centered).mean(-1, keepdim=True) + 1e-7).sqrt()


def loudness_of(reading: Reading) -> Loudness:
    """What the folder's feature extractor does with samples."""
    return Loudness(normalize=bool(_extractor_of(reading).do_normalize))


def parity_sounds(reading: Reading, examples: Sequence[Utterance]) -> list[Tensor]:
    """Samples of several lengths ``[batch, samples]`` for parity cases; the first is traced."""
    joined = torch.cat([torch.from_numpy(sound_of(reading, each)) for each in examples[:_JOINED]])
    cases = []
    for seconds, rows in zip(_PARITY_S, (2, 1, 3), strict=True):
        samples = int(seconds * SAMPLE_RATE)
        repeated = joined.repeat(1 + rows * samples // len(joined))
        cases.append(repeated[: rows * samples].reshape(rows, samples))
    return cases


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """How much sound is read at once; shorter sounds cost less."""
    return {"max_tokens": reading.max_tokens, "window_samples": longest_samples(reading)}


def longest_samples(reading: Reading) -> int:
    """Samples that are read at once at most, by a model that reads any number."""
    return round((reading.window_s or _LONGEST_S) * SAMPLE_RATE)


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Check that tokenizer, feature extractor and model belong together.

    Raises:
        UnsupportedModelError: The model has fewer tokens than the tokenizer, or reads something else.
    """
    _extractor_of(reading)
    config: Any = model.config
    highest = max(tokenizer_of(reading).get_vocab().values())
    if highest >= config.vocab_size:
        raise UnsupportedModelError(
            f"the tokenizer has a token {highest}, and the model knows {config.vocab_size} tokens",
            "tokenizer and weights do not belong together; get the model again",
        )


def token_table(model: nn.Module) -> Any:  # noqa: ANN401 - a module whose weight is a tensor
    """The layer that scores letters: there is none that looks them up."""
    return model.lm_head


def example_batches(reading: Reading, examples: Sequence[Utterance], size: int) -> list[Batch]:
    """Batches of transcripts of similar length, shortest first."""
    order = sorted(examples, key=lambda example: (len(example.text), example.id))
    return [collate(reading, order[start : start + size]) for start in range(0, len(order), size)]


def collate(reading: Reading, examples: Sequence[Utterance]) -> Batch:
    """Examples as one padded batch, in their order.

    Args:
        reading: How texts become tokens.
        examples: At least one.

    Returns:
        ``input_values`` and ``samples_mask`` ``[batch, samples]``; ``attention_mask`` and, the same,
        ``decoder_attention_mask`` ``[batch, frames]``; ``labels`` ``[batch, letters]``, -100 for padding.
    """
    loud = loudness_of(reading)
    sounds = [loud(torch.from_numpy(sound_of(reading, each))[None])[0] for each in examples]
    lengths = torch.tensor([len(sound) for sound in sounds])
    frames = _frames(reading, lengths)
    mask = (torch.arange(int(frames.max())) < frames[:, None]).long()
    tokenizer = tokenizer_of(reading)
    rows = [tokenizer(in_case(tokenizer, each.text))["input_ids"] for each in examples]
    width = max(map(len, rows))
    return {
        VALUES: nn.utils.rnn.pad_sequence(sounds, batch_first=True),
        SAMPLES: (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
        SOURCE: mask,
        TARGETS: mask,
        "labels": torch.tensor([[*row, *[_IGNORED] * (width - len(row))] for row in rows]),
    }


def in_case(tokenizer: Any, text: str) -> str:  # noqa: ANN401 - transformers is not typed
    """A text in the letters that a tokenizer has: many models know capitals only.

    Args:
        tokenizer: Of the model.
        text: As it is written elsewhere.
    """
    known = {token for token in tokenizer.get_vocab() if len(token) == 1 and token.isalpha()}
    cases = {token.isupper() for token in known if token.isupper() != token.islower()}
    return text if len(cases) != 1 else text.upper() if cases.pop() else text.lower()


def _frames(reading: Reading, samples: Tensor) -> Tensor:
    """How many positions a model has for so many samples."""
    config = _config(reading.folder, reading.fingerprint)
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
    return samples


@functools.lru_cache(maxsize=4)
def _config(folder: Path, _: str) -> Any:  # noqa: ANN401 - transformers is not typed
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True)


def run(model: nn.Module, batch: Batch, *, hidden: bool = False, attention: bool = False) -> Outputs:
    """Score the letters of every position; logits are 0 where there is padding.

    Args:
        model: The model.
        batch: Of ``collate``; may have ``HIDDEN`` positions, ``[batch, frames]``.
        hidden: Whether to keep the states of every layer.
        attention: Not kept: there is no decoder that looks at anything.
    """
    config: Any = model.config
    # As transformers has it: models whose first layer normalizes over time were trained without a mask.
    masked = {} if config.feat_extract_norm == "group" else {"attention_mask": batch[SAMPLES]}
    unheard = {HIDDEN: batch[HIDDEN]} if HIDDEN in batch else {}
    out = model(batch[VALUES], output_hidden_states=hidden, **masked, **unheard)
    padding = batch[TARGETS].unsqueeze(-1) == 0
    states = tuple(out.hidden_states[1:]) if hidden else ()
    return Outputs(result=out.logits.masked_fill(padding, 0.0), hidden=states)


def ctc_loss(logits: Tensor, batch: Batch, _: float, *, blank: int) -> Tensor:
    """Mean CTC loss a letter of the references.

    Args:
        logits: ``[batch, positions, letters]``.
        batch: Of ``collate``.
        _: Label smoothing, which this loss has not.
        blank: Which letter stands for nothing.

    Source:
        Graves et al., Connectionist Temporal Classification (2006), equation 8.
    """
    labels = batch["labels"]
    counted = labels != _IGNORED
    frames, letters = batch[TARGETS].sum(-1), counted.sum(-1)
    scores = logits.float().log_softmax(-1).transpose(0, 1)
    found: Tensor = nn.functional.ctc_loss(
        scores, labels[counted], frames, letters, blank=blank, reduction="sum", zero_infinity=True
    )
    return found / letters.sum().clamp(min=1)


def letters_of(model: nn.Module, reading: Reading) -> Letters:
    """What the scores stand for: the letters in order, the blank, and what is written as a space.

    Raises:
        UnsupportedModelError: The tokenizer's letters are none that can be joined.
    """
    tokenizer = tokenizer_of(reading)
    size = int(model.config.vocab_size)  # type: ignore[union-attr, arg-type]
    found = tokenizer.convert_ids_to_tokens(list(range(size)))
    delimiter = getattr(tokenizer, "word_delimiter_token", None)
    special = set(tokenizer.all_special_tokens) - {delimiter}
    letters = ["" if each is None or each in special else str(each) for each in found]
    if delimiter is None or delimiter not in letters:
        raise UnsupportedModelError(
            f"{reading.folder}: its tokenizer has no word_delimiter_token among its letters",
            "a Wav2Vec2CTCTokenizer is needed",
        )
    return Letters(letters=tuple(letters), blank=int(tokenizer.pad_token_id), space=str(delimiter))


@torch.inference_mode()
def transcribed(model: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> list[str]:
    """The likeliest letters of a few examples, one after the other: padding changes what some models hear.

    By the runtime's own code: transformers writes special tokens out, or else leaves the blanks out before it
    takes repeated letters for one.
    """
    letters = letters_of(model, reading)
    device = next(model.parameters()).device
    texts = []
    for example in examples:
        batch = {name: tensor.to(device) for name, tensor in collate(reading, [example]).items()}
        scores = run(model, batch).result[0].float().cpu().numpy()
        texts.append(letters.text(likeliest(scores, letters.blank)))
    return texts
