"""What is beside the weights in the folder of a speech model: its tokenizer, and what makes its features."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.runtime.audio import SAMPLE_RATE
from edgelr.tasks.log_mel import LogMel, log_mel_of
from edgelr.tasks.pretrained import reason_of
from edgelr.tasks.task import Reading

HOP = 160  # samples of a frame of every Whisper: 10 ms


@functools.lru_cache(maxsize=4)
def tokenizer_of(reading: Reading) -> Any:  # noqa: ANN401 - transformers is not typed
    """The folder's tokenizer.

    Raises:
        UnsupportedModelError: There is none.
    """
    from transformers import AutoTokenizer

    names = ("tokenizer.json", "vocab.json")
    if not any((reading.folder / name).is_file() for name in names):
        # transformers would make one up, of hardly any tokens.
        raise UnsupportedModelError(
            f"{reading.folder} has no usable tokenizer: neither {names[0]} nor {names[1]}",
            "get the model's tokenizer files again",
        )
    return of_folder(reading.folder, AutoTokenizer, "tokenizer")


def check_vocabulary(reading: Reading, known: int) -> None:
    """Check that a model has every token of the tokenizer.

    Raises:
        UnsupportedModelError: It knows fewer.
    """
    highest = max(tokenizer_of(reading).get_vocab().values())
    if highest >= known:
        raise UnsupportedModelError(
            f"the tokenizer has a token {highest}, and the model knows {known} tokens",
            "tokenizer and weights do not belong together; get the model again",
        )


def check_positions(reading: Reading, positions: int) -> None:
    """Check that a decoder has room for the longest transcript.

    Raises:
        UsageError: It has fewer positions than ``max_tokens``.
    """
    if reading.max_tokens > positions:
        raise UsageError(
            f"task.max_tokens: {reading.max_tokens} was asked for, the model has {positions} positions",
            f"set it to at most {positions}",
        )


@functools.lru_cache(maxsize=4)
def features_of(reading: Reading) -> LogMel:
    """What turns samples into the model's input.

    Raises:
        UnsupportedModelError: The folder has no feature extractor, or one of another kind of model.
    """
    from transformers import AutoFeatureExtractor

    extractor = of_folder(reading.folder, AutoFeatureExtractor, "feature extractor")
    kind = type(extractor).__name__
    if kind != "WhisperFeatureExtractor":
        raise UnsupportedModelError(
            f"{reading.folder} has a {kind}, not a WhisperFeatureExtractor",
            "the feature extractor and the model do not belong together; get the model again",
        )
    if extractor.sampling_rate != SAMPLE_RATE:
        raise UnsupportedModelError(
            f"{reading.folder}: the feature extractor takes {extractor.sampling_rate} Hz, not {SAMPLE_RATE}"
        )
    if extractor.hop_length != HOP:
        raise UnsupportedModelError(
            f"{reading.folder}: the feature extractor has a frame every {extractor.hop_length} samples, "
            f"and the model reads one every {HOP}",
            "the feature extractor and the model do not belong together; get the model again",
        )
    return log_mel_of(extractor)


def of_folder(folder: Path, kind: Any, what: str) -> Any:  # noqa: ANN401 - transformers is not typed
    """Load a part of a model's folder.

    Args:
        folder: The model's.
        kind: Class of transformers that chooses the part's class.
        what: Its name, for an error.

    Raises:
        UnsupportedModelError: There is no such part, or it is damaged.
    """
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        raise UnsupportedModelError(
            f"{folder} has no usable {what}: {reason_of(error)}", f"get the model's {what} files again"
        ) from error
