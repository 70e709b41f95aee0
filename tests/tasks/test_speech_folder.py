"""The files beside the weights of a speech model, and what is wrong with them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.tasks.speech_folder import features_of, of_folder, tokenizer_of
from edgelr.tasks.task import Reading


@pytest.fixture
def folder(tiny_whisper: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Whisper to break."""
    return Path(shutil.copytree(tiny_whisper, tmp_path / "m"))


def test_the_features_are_those_of_the_folders_extractor(speech_reading: Reading, speech: Any) -> None:
    """To a ten thousandth, between about -1 and 2."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor.from_pretrained(speech_reading.folder)
    sounds = [speech(number, seconds) for number, seconds in enumerate((0.01, 0.5, 1.3, 2.0))]
    expected = extractor(sounds, sampling_rate=16_000, return_tensors="pt")["input_features"]
    padded = torch.stack([nn.functional.pad(torch.from_numpy(pcm), (0, 32_000 - len(pcm))) for pcm in sounds])
    torch.testing.assert_close(features_of(speech_reading)(padded), expected, atol=1e-4, rtol=0)


def test_an_extractor_of_another_kind_of_model_is_named(folder: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    for path in folder.glob("*processor_config.json"):
        path.unlink()
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    with pytest.raises(UnsupportedModelError, match="has a Wav2Vec2FeatureExtractor, not a Whisper"):
        features_of(Reading(folder=folder, max_tokens=24))


def processor_of(folder: Path, **values: object) -> None:
    """Write the configuration of another feature extractor into a folder."""
    from transformers import WhisperFeatureExtractor

    for path in folder.glob("*processor_config.json"):
        path.unlink()
    WhisperFeatureExtractor(**{"chunk_length": 2, **values}).save_pretrained(folder)


def test_an_extractor_of_another_rate_is_named(folder: Path) -> None:
    processor_of(folder, sampling_rate=8000)
    with pytest.raises(UnsupportedModelError, match="the feature extractor takes 8000 Hz, not 16000"):
        features_of(Reading(folder=folder, max_tokens=24))


def test_an_extractor_with_other_frames_is_found(folder: Path) -> None:
    processor_of(folder, hop_length=320)
    with pytest.raises(UnsupportedModelError, match="a frame every 320 samples"):
        features_of(Reading(folder=folder, max_tokens=24))


def test_a_folder_without_an_extractor_is_named(folder: Path) -> None:
    for path in folder.glob("*processor_config.json"):
        path.unlink()
    with pytest.raises(UnsupportedModelError, match="has no usable feature extractor") as caught:
        features_of(Reading(folder=folder, max_tokens=24))
    assert str(folder) in str(caught.value)


def test_a_folder_without_a_tokenizer_is_named(folder: Path) -> None:
    """transformers would make an empty one up."""
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModelError, match=r"has no usable tokenizer: .*tokenizer\.json") as caught:
        tokenizer_of(Reading(folder=folder, max_tokens=24))
    assert str(folder) in str(caught.value)


def test_what_a_library_says_of_a_damaged_file_is_passed_on(folder: Path) -> None:
    from transformers import AutoTokenizer

    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UnsupportedModelError, match=r"has no usable tokenizer: \w+") as caught:
        of_folder(folder, AutoTokenizer, "tokenizer")
    assert caught.value.exit_code == 4
