"""What a translation package holds besides graphs: written here, read by the runtime."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Translation
from edgelr.runtime.generation import read_generation
from edgelr.runtime.tokens import open_codec
from edgelr.tasks.task import Reading
from edgelr.tasks.translation_files import generation_config, write_text_files
from edgelr.tasks.translation_model import load_model, tokenizer_of

LIMIT = {"max_tokens": 48}
PAD = 86


@pytest.fixture(scope="module")
def model(tiny_translator: Path) -> Any:
    return load_model(tiny_translator)


def test_the_runtime_reads_the_tokens_that_the_model_was_tuned_on(
    model: Any, translator_reading: Reading, translations: tuple[Translation, ...], tmp_path: Path
) -> None:
    write_text_files(tmp_path, model, translator_reading)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tokenizer.json", "tokenizer_config.json", "generation.json"}
    codec, tokenizer = open_codec(tmp_path, LIMIT), tokenizer_of(translator_reading)
    for text in [example.source for example in translations[:30]] + ["", "hello wörld", "one " * 100]:
        assert codec.encode(text) == tokenizer(text).input_ids
        assert codec.decode(codec.encode(text)) == tokenizer.decode(
            codec.encode(text), skip_special_tokens=True
        )
    assert codec.sizes() == (87, 87)


def test_a_package_searches_greedily_and_otherwise_as_the_model_says(
    model: Any, translator_reading: Reading, tmp_path: Path
) -> None:
    write_text_files(tmp_path, model, translator_reading)
    found = read_generation(tmp_path)
    assert (found.num_beams, found.max_length) == (1, 48)
    assert (found.decoder_start_token_id, found.pad_token_id, found.eos_token_id) == (PAD, PAD, (0,))
    assert (found.suppress_tokens, found.forced_eos_token_id) == ((PAD,), 0)
    assert found.no_repeat_ngram_size == 2


def test_the_same_is_written_twice(model: Any, translator_reading: Reading, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        write_text_files(folder, model, translator_reading)
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()


@pytest.mark.parametrize("setting", [{"max_new_tokens": 7}, {"max_length": 512}])
def test_the_length_is_the_recipes(
    tiny_translator: Path, translator_reading: Reading, setting: dict[str, int]
) -> None:
    model: Any = load_model(tiny_translator)
    model.generation_config.update(**setting)
    config = generation_config(model, translator_reading)
    assert config["max_length"] == 48
    assert "max_new_tokens" not in config


def test_the_language_to_translate_to_comes_first(tiny_translator: Path, model: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_translator, tmp_path / "m")
    tokenizer = tokenizer_of(Reading(folder=folder, max_tokens=8))
    tokenizer.add_tokens(["__de__", "eng_Latn"])
    tokenizer.save_pretrained(folder)
    reading = Reading(folder=folder, max_tokens=48, source_language="de", target_language="de")
    assert generation_config(model, reading)["forced_bos_token_id"] == 87
    assert generation_config(model, replace(reading, target_language="eng_Latn"))["forced_bos_token_id"] == 88


@pytest.mark.parametrize("kind", ["marian_tokenizer", "m2m_tokenizer"])
def test_tokenizers_of_sentence_pieces_are_written_as_they_are(
    kind: str, model: Any, request: pytest.FixtureRequest, tmp_path: Path, odd_texts: list[str]
) -> None:
    folder = request.getfixturevalue(kind)
    languages = {"source_language": "en", "target_language": "de"} if kind.startswith("m2m") else {}
    reading = Reading(folder=folder, max_tokens=48, **languages)
    write_text_files(tmp_path, model, reading)
    codec, tokenizer = open_codec(tmp_path, {**LIMIT, **languages}), tokenizer_of(reading)
    for text in odd_texts:
        assert codec.encode(text) == tokenizer(text).input_ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty_alpha": 0.6}, "asks for penalty_alpha 0.6, which a package cannot do"),
        ({"bad_words_ids": [[3, 4]]}, "a bad word of several tokens"),
    ],
)
def test_a_search_that_no_package_can_do_is_named(
    tiny_translator: Path, translator_reading: Reading, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    model: Any = load_model(tiny_translator)
    model.generation_config.update(**change)
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        write_text_files(tmp_path, model, translator_reading)
    assert caught.value.exit_code == 4


def test_a_tokenizer_that_the_runtime_cannot_read_is_named(
    model: Any, translator_reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save: Callable[..., object] = type(tokenizer_of(translator_reading)).save_pretrained

    def other(self: Any, folder: str) -> None:
        save(self, folder)
        Path(folder, "tokenizer.json").rename(Path(folder, "tekken.json"))

    monkeypatch.setattr(type(tokenizer_of(translator_reading)), "save_pretrained", other)
    with pytest.raises(UnsupportedModelError, match=r"cannot read a tokenizer of .*tekken\.json"):
        write_text_files(tmp_path, model, translator_reading)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizers_configuration_is_json(model: Any, translator_reading: Reading, tmp_path: Path) -> None:
    write_text_files(tmp_path, model, translator_reading)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "</s>"
