"""Models with CTC: wav2vec2 and HuBERT."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Utterance
from edgelr.tasks import ctc_model
from edgelr.tasks.ctc_model import (
    check_reach,
    collate,
    ctc_loss,
    in_case,
    letters_of,
    load_model,
    loudness_of,
    run,
    tokenizer_of,
    transcribed,
)
from edgelr.tasks.sequence_losses import TARGETS
from edgelr.tasks.task import Reading

Utterances = tuple[Utterance, ...]


def reading_of(folder: Path, sounds: Path) -> Reading:
    return Reading(folder=folder, max_tokens=64, sounds=sounds)


@pytest.fixture(scope="module", params=["wav2vec2", "wav2vec2-layer", "hubert"])
def folder(request: pytest.FixtureRequest, make_ctc: Any) -> Path:
    found: Path = make_ctc(request.param)
    return found


def test_a_batch_is_padded_and_masked(folder: Path, sounds: Path, utterances: Utterances) -> None:
    reading = reading_of(folder, sounds)
    batch = collate(reading, utterances[:3])
    model = load_model(folder)
    lengths = batch["samples_mask"].sum(-1)
    frames = model._get_feat_extract_output_lengths(lengths)  # type: ignore[operator]
    assert batch["attention_mask"].sum(-1).tolist() == frames.tolist()
    assert run(model, batch).result.shape[:2] == batch["attention_mask"].shape
    spelled = tokenizer_of(reading)(utterances[0].text.upper())["input_ids"]
    assert batch["labels"][0][: len(spelled)].tolist() == spelled, "the model knows capitals only"


def test_loudness_is_that_of_the_extractor(folder: Path, sounds: Path, speech: Any) -> None:
    from transformers import AutoFeatureExtractor

    pcm = 0.01 * speech(3, 0.7) + 0.1
    expected = AutoFeatureExtractor.from_pretrained(folder)(pcm, sampling_rate=16_000).input_values[0]
    found = loudness_of(reading_of(folder, sounds))(torch.from_numpy(pcm)[None].float())[0]
    torch.testing.assert_close(found, torch.as_tensor(expected), atol=1e-4, rtol=0)


def test_padding_changes_nothing_where_the_model_masks_it(
    make_ctc: Any, sounds: Path, utterances: Utterances
) -> None:
    folder = make_ctc("wav2vec2-layer")
    reading, model = reading_of(folder, sounds), load_model(folder)
    with torch.inference_mode():
        both = run(model, collate(reading, [utterances[0], utterances[-1]])).result[0]
        alone = run(model, collate(reading, [utterances[0]])).result[0]
    torch.testing.assert_close(both[: len(alone)], alone, atol=1e-3, rtol=1e-3)
    assert not both[len(alone) :].any()


def test_the_loss_is_that_of_transformers(make_ctc: Any, sounds: Path, utterances: Utterances) -> None:
    folder = make_ctc("wav2vec2-layer")
    reading, model = reading_of(folder, sounds), load_model(folder)
    batch = collate(reading, utterances[2:5])
    model.config.ctc_loss_reduction, model.config.ctc_zero_infinity = "sum", True  # type: ignore[union-attr]
    with torch.inference_mode():
        expected = model(
            batch["input_values"], attention_mask=batch["samples_mask"], labels=batch["labels"]
        ).loss
        found = ctc_loss(run(model, batch).result, batch, 0.0, blank=0)
    letters = (batch["labels"] >= 0).sum()
    torch.testing.assert_close(found * letters, expected, rtol=1e-4, atol=1e-3)


def test_letters_are_joined_as_transformers_does(make_ctc: Any, sounds: Path, utterances: Utterances) -> None:
    """Where no special token is among the likeliest, which it would write out."""
    folder = make_ctc("wav2vec2")
    reading, model = reading_of(folder, sounds), load_model(folder)
    with torch.no_grad():
        model.lm_head.bias[1:4] = -1e9  # type: ignore[union-attr, index]
    texts = transcribed(model, reading, utterances)
    tokenizer = tokenizer_of(reading)
    for example, text in zip(utterances, texts, strict=True):
        with torch.inference_mode():
            ids = run(model, collate(reading, [example])).result.argmax(-1)
        assert " ".join(tokenizer.batch_decode(ids)[0].split()) == text
    assert len(set(texts)) > 4


def test_convolutions_are_plain_so_that_they_can_be_factored(folder: Path) -> None:
    model = load_model(folder)
    assert not any(hasattr(module, "parametrizations") for module in model.modules())
    assert sum(isinstance(module, nn.Conv1d) for module in model.modules()) >= 8


def test_letters_know_their_blank_and_space(folder: Path, sounds: Path) -> None:
    letters = letters_of(load_model(folder), reading_of(folder, sounds))
    assert (letters.blank, letters.space, letters.letters[:5]) == (0, "|", ("", "", "", "", "|"))
    assert letters.text([5, 4, 6]) == "E T"


@pytest.mark.parametrize(("known", "text"), [("ABC|", "TURN ON"), ("abc|", "turn on"), ("aB", "Turn on")])
def test_texts_come_in_the_case_that_a_tokenizer_has(known: str, text: str) -> None:
    class Known:
        @staticmethod
        def get_vocab() -> dict[str, int]:
            return {letter: number for number, letter in enumerate(known)}

    assert in_case(Known(), "Turn on") == text


def test_a_tokenizer_of_another_model_is_found(make_ctc: Any, sounds: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "m"
    shutil.copytree(make_ctc("wav2vec2"), folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, "Ä": 99}))
    reading = reading_of(folder, sounds)
    with pytest.raises(UnsupportedModelError, match="the tokenizer has a token 99"):
        check_reach(load_model(folder), reading)


def test_an_extractor_of_another_kind_is_found(
    make_ctc: Any, tiny_whisper: Path, sounds: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "m"
    shutil.copytree(make_ctc("wav2vec2"), folder)
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (tiny_whisper / name).is_file():
            shutil.copyfile(tiny_whisper / name, folder / name)
    with pytest.raises(UnsupportedModelError, match="WhisperFeatureExtractor"):
        check_reach(load_model(folder), reading_of(folder, sounds))


def test_targets_are_the_positions(make_ctc: Any, sounds: Path, utterances: Utterances) -> None:
    batch = collate(reading_of(make_ctc("wav2vec2"), sounds), utterances[:2])
    assert torch.equal(batch[TARGETS], batch["attention_mask"])
    assert ctc_model.MODELS == ("wav2vec2", "hubert")
