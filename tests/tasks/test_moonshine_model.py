"""Moonshine: samples in, tokens out."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.examples import Utterance
from edgelr.runtime.transcribe import SHORTEST
from edgelr.tasks.moonshine_model import (
    check_reach,
    collate,
    load_model,
    positions_of,
    run,
    transcribed,
    values_of,
)
from edgelr.tasks.task import Reading

Utterances = tuple[Utterance, ...]


@pytest.fixture(scope="module", params=["plain", "odd"])
def folder(request: pytest.FixtureRequest, make_moonshine: Callable[[str], Path]) -> Path:
    return make_moonshine(request.param)


@pytest.fixture
def reading(folder: Path, sounds: Path) -> Reading:
    return Reading(folder=folder, max_tokens=24, sounds=sounds)


@pytest.fixture(scope="module")
def model(folder: Path) -> nn.Module:
    return load_model(folder)


def theirs(folder: Path) -> Any:
    """The model as transformers loads it."""
    from transformers import MoonshineForConditionalGeneration

    return MoonshineForConditionalGeneration.from_pretrained(folder).eval()


def test_a_batch_is_padded_and_masked(model: nn.Module, reading: Reading, utterances: Utterances) -> None:
    batch = collate(reading, utterances[:3])
    positions = run(model, batch, hidden=True).hidden[0].shape[:2]
    assert batch["attention_mask"].shape == positions
    assert batch["input_values"].shape == batch["samples_mask"].shape
    rows = batch["attention_mask"].sum(-1).tolist()
    assert rows == sorted(rows)
    assert rows[0] < rows[2] == positions[1]
    assert batch["decoder_input_ids"][:, 0].tolist() == [1, 1, 1]
    assert set(batch["labels"][batch["decoder_attention_mask"] == 0].tolist()) <= {-100}


def test_targets_are_never_as_many_as_positions(reading: Reading, utterances: Utterances) -> None:
    """A mask belongs to whatever has its shape."""
    assert positions_of(8000) == 19
    words = replace(utterances[0], text=" ".join(["seven"] * 60))
    lengths = [
        collate(replace(reading, max_tokens=most), [words])["labels"].shape[1] for most in (18, 19, 20)
    ]
    assert lengths == [18, 20, 20]


@pytest.mark.parametrize("samples", [SHORTEST, SHORTEST + 1, 1278, 1279, 8000, 20_001])
def test_positions_are_those_of_the_model(model: Any, samples: int) -> None:
    with torch.inference_mode():
        states = model.get_encoder()(torch.zeros(1, samples)).last_hidden_state
    assert states.shape[1] == positions_of(samples)


def test_a_batch_gives_what_transformers_gives(
    folder: Path, model: nn.Module, reading: Reading, utterances: Utterances
) -> None:
    batch = collate(reading, utterances[3:6])
    with torch.inference_mode():
        found = run(model, batch, hidden=True)
        expected = theirs(folder)(
            input_values=batch["input_values"],
            attention_mask=batch["samples_mask"],
            decoder_input_ids=batch["decoder_input_ids"],
            labels=batch["labels"],
        )
    counted = batch["decoder_attention_mask"].bool()
    torch.testing.assert_close(found.result[counted], expected.logits[counted], atol=1e-4, rtol=1e-4)
    assert not found.result[~counted].any()
    assert len(found.hidden) == 4


def test_what_the_decoder_looks_at_is_kept(folder: Path, reading: Reading, utterances: Utterances) -> None:
    model: Any = load_model(folder)
    model.set_attn_implementation("eager")
    batch = collate(reading, utterances[:2])
    looks = run(model, batch, attention=True).attention
    target, positions = batch["decoder_input_ids"].shape[1], batch["attention_mask"].shape[1]
    assert [tuple(each.shape) for each in looks] == [(2, 4, target, positions)] * 2


def test_samples_are_read_as_the_extractor_gives_them(
    folder: Path, sounds: Path, utterances: Utterances, tmp_path: Path
) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    from edgelr.runtime.audio import read_audio

    loud = Path(shutil.copytree(folder, tmp_path / "loud"))
    (loud / "processor_config.json").unlink(missing_ok=True)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(loud)
    pcm = read_audio(sounds / utterances[2].audio)
    for place in (folder, loud):
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(place)
        expected = extractor(pcm, sampling_rate=16_000, return_tensors="pt").input_values[0]
        found = values_of(Reading(folder=place, max_tokens=24, sounds=sounds), utterances[2])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_transcripts_are_those_of_one_sound_alone(
    folder: Path, model: nn.Module, reading: Reading, utterances: Utterances, sounds: Path
) -> None:
    """Of a batch, others would come out: its first layers hear the padding."""
    from transformers import AutoTokenizer

    from edgelr.runtime.audio import read_audio

    tokenizer, other = AutoTokenizer.from_pretrained(folder), theirs(folder)
    for beams in (1, 3):
        expected = []
        for example in utterances:
            values = torch.from_numpy(read_audio(sounds / example.audio))[None]
            ids = other.generate(input_values=values, num_beams=beams, max_new_tokens=23)
            expected.append(tokenizer.decode(ids[0], skip_special_tokens=True).strip())
        assert transcribed(model, reading, utterances, beams) == expected
        assert len(set(expected)) > 8


def test_a_longer_sound_is_cut_where_a_recipe_says_so(reading: Reading, utterances: Utterances) -> None:
    assert len(values_of(replace(reading, window_s=1.0), utterances[-1])) == 16_000
    assert len(values_of(reading, utterances[-1])) == 32_000


def test_parts_that_do_not_belong_together_are_refused(
    model: nn.Module, reading: Reading, tiny_whisper: Path
) -> None:
    check_reach(model, reading)
    with pytest.raises(UsageError, match="the model has 64 positions"):
        check_reach(model, replace(reading, max_tokens=65))
    with pytest.raises(UsageError, match="knows one language only"):
        check_reach(model, replace(reading, source_language="en"))
    with pytest.raises(UnsupportedModelError, match="the tokenizer has a token"):
        check_reach(model, replace(reading, folder=tiny_whisper))


def test_the_feature_extractor_must_be_of_samples(
    folder: Path, model: nn.Module, reading: Reading, tiny_whisper: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "m"))
    for name in ("processor_config.json", "preprocessor_config.json"):
        (other / name).unlink(missing_ok=True)
        if (tiny_whisper / name).is_file():
            shutil.copyfile(tiny_whisper / name, other / name)
    with pytest.raises(UnsupportedModelError, match="not a Wav2Vec2FeatureExtractor"):
        check_reach(model, replace(reading, folder=other))


def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "m"))
    (other / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match="cannot be loaded as a speech model"):
        load_model(other)
