"""What a speech package holds besides graphs: written here, read by the runtime."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Utterance
from edgelr.runtime.generation import read_generation
from edgelr.runtime.tokens import open_codec
from edgelr.tasks.speech_files import copy_sounds, generation_config, write_speech_files
from edgelr.tasks.speech_folder import tokenizer_of
from edgelr.tasks.speech_model import load_model
from edgelr.tasks.task import Reading

LIMIT = {"max_tokens": 24}
Spoken = tuple[Utterance, ...]


@pytest.fixture
def model(tiny_whisper: Path) -> Any:
    return load_model(tiny_whisper)


def test_the_runtime_reads_the_tokens_that_the_model_was_tuned_on(
    model: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    write_speech_files(tmp_path, model, speech_reading, utterances[:2])
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "tokenizer.json",
        "tokenizer_config.json",
        "generation.json",
        "audio/00.flac",
        "audio/01.flac",
    }
    codec, tokenizer = open_codec(tmp_path, LIMIT), tokenizer_of(speech_reading)
    for text in [*(example.text for example in utterances), "", "wörld 日本", "one " * 100, " two  three "]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert codec.encode_plain(text) == ids
        for tokens in (ids, tokenizer(text).input_ids):
            assert codec.decode(tokens) == tokenizer.decode(tokens, skip_special_tokens=True)
    assert codec.sizes() == (297, 297)


def test_a_package_searches_greedily_and_otherwise_as_the_model_says(
    model: Any, speech_reading: Reading, tmp_path: Path
) -> None:
    model.generation_config.update(num_beams=5, max_new_tokens=7, do_sample=True)
    write_speech_files(tmp_path, model, speech_reading, ())
    found, own = read_generation(tmp_path), model.generation_config
    assert (found.num_beams, found.max_length) == (1, 24)
    assert (found.decoder_start_token_id, found.pad_token_id, found.eos_token_id) == (290, 289, (289,))
    assert found.prompt_ids == (296,)
    assert found.no_speech_token_id == 295
    assert found.suppress_tokens == tuple(own.suppress_tokens)
    assert found.begin_suppress_tokens == tuple(own.begin_suppress_tokens)
    assert found.no_repeat_ngram_size == 3


def test_the_token_of_silence_is_the_tokenizers(speech_reading: Reading, many_reading: Reading) -> None:
    """transformers knows it by its place only."""
    for reading in (speech_reading, many_reading):
        config = generation_config(load_model(reading.folder), reading)
        tokenizer = tokenizer_of(reading)
        assert tokenizer.convert_ids_to_tokens(config["no_speech_token_id"]) == "<|nospeech|>"


def test_language_and_task_are_in_the_prompt_and_nowhere_else(many_reading: Reading, tmp_path: Path) -> None:
    model: Any = load_model(many_reading.folder)
    model.generation_config.update(language="en", task="translate")
    config = generation_config(model, many_reading)
    assert {"language", "task", "forced_decoder_ids"}.isdisjoint(config)
    names = tokenizer_of(many_reading).convert_ids_to_tokens(config["prompt_ids"])
    assert names == ["<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    write_speech_files(tmp_path, model, many_reading, ())
    assert read_generation(tmp_path).prompt_ids == tuple(config["prompt_ids"])


def test_a_model_without_times_has_no_token_of_silence(model: Any, speech_reading: Reading) -> None:
    model.generation_config.no_timestamps_token_id = None
    config = generation_config(model, speech_reading)
    assert config["prompt_ids"] == []
    assert "no_speech_token_id" not in config


def test_sounds_are_copied_byte_by_byte(speech_reading: Reading, utterances: Spoken, tmp_path: Path) -> None:
    assert speech_reading.sounds is not None
    copy_sounds(tmp_path, speech_reading, utterances)
    for example in utterances:
        assert (tmp_path / example.audio).read_bytes() == (speech_reading.sounds / example.audio).read_bytes()


def test_the_same_is_written_twice(
    model: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        write_speech_files(folder, model, speech_reading, utterances[:1])
    for path in folders[0].glob("*.json"):
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()


def test_a_search_that_no_package_can_do_is_named(
    model: Any, speech_reading: Reading, tmp_path: Path
) -> None:
    model.generation_config.update(penalty_alpha=0.6)
    with pytest.raises(
        UnsupportedModelError, match=r"asks for penalty_alpha 0\.6, which a package cannot do"
    ):
        write_speech_files(tmp_path, model, speech_reading, ())


def test_a_tokenizer_that_the_runtime_cannot_read_is_named(
    model: Any, tiny_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(folder=Path(shutil.copytree(tiny_whisper, tmp_path / "m")), max_tokens=24)
    save: Callable[..., object] = type(tokenizer_of(reading)).save_pretrained

    def other(self: Any, folder: str) -> None:
        save(self, folder)
        Path(folder, "tokenizer.json").unlink()

    monkeypatch.setattr(type(tokenizer_of(reading)), "save_pretrained", other)
    (tmp_path / "p").mkdir()
    with pytest.raises(UnsupportedModelError, match=r"cannot read its tokenizer\n.*tokenizer\.json"):
        write_speech_files(tmp_path / "p", model, reading, ())
    assert list((tmp_path / "p").iterdir()) == []
