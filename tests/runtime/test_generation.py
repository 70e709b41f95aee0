import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.generation import (
    Generation,
    check_tokens,
    generation_of,
    read_generation,
    write_generation,
)

START: dict[str, Any] = {"decoder_start_token_id": 9, "eos_token_id": 0, "pad_token_id": 9, "max_length": 512}
FULL = Generation(
    decoder_start_token_id=9,
    eos_token_id=(0, 4),
    pad_token_id=9,
    max_length=512,
    num_beams=4,
    length_penalty=-0.5,
    early_stopping="never",
    suppress_tokens=(9, 11),
    begin_suppress_tokens=(3,),
    forced_bos_token_id=5,
    forced_eos_token_id=0,
    repetition_penalty=1.2,
    no_repeat_ngram_size=3,
    min_length=2,
    renormalize_logits=True,
)


# --- the file ---------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for generation in (FULL, generation_of(START)):
        write_generation(tmp_path, generation)
        assert read_generation(tmp_path) == generation


def test_the_same_values_are_the_same_bytes(tmp_path: Path) -> None:
    write_generation(tmp_path, FULL)
    first = (tmp_path / "generation.json").read_bytes()
    write_generation(tmp_path, read_generation(tmp_path))
    assert (tmp_path / "generation.json").read_bytes() == first


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("max_length", 1, "max_length: expected at least 2, found 1"),
        ("max_length", 20.0, "max_length: expected a whole number, found 20.0"),
        ("num_beams", 0, "num_beams"),
        ("num_beams", True, "num_beams: expected a whole number, found True"),
        ("eos_token_id", 0, "eos_token_id"),
        ("eos_token_id", [0, -1], r"eos_token_id\.1"),
        ("early_stopping", "sometimes", "early_stopping"),
        ("early_stopping", 1, "early_stopping"),
        ("length_penalty", "1", "length_penalty"),
        ("length_penalty", float("nan"), "length_penalty: expected a finite number"),
        ("repetition_penalty", 0, "repetition_penalty"),
        ("forced_bos_token_id", "fr", "forced_bos_token_id"),
        ("temperature", 0.7, "temperature: unknown"),
    ],
)
def test_a_senseless_field_is_damage(tmp_path: Path, field: str, value: object, words: str) -> None:
    write_generation(tmp_path, FULL)
    path = tmp_path / "generation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(DamagedArtifactError, match=rf"generation\.json: {words}"):
        read_generation(tmp_path)


def test_a_missing_field_or_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match=r"generation\.json cannot be read"):
        read_generation(tmp_path)
    write_generation(tmp_path, FULL)
    path = tmp_path / "generation.json"
    document = json.loads(path.read_text())
    del document["num_beams"]
    path.write_text(json.dumps(document))
    with pytest.raises(DamagedArtifactError, match=r"generation\.json has no num_beams"):
        read_generation(tmp_path)
    path.write_text("[]")
    with pytest.raises(DamagedArtifactError, match="has no decoder_start_token_id, "):
        read_generation(tmp_path)


# --- from transformers ------------------------------------------------------------------------------


def test_a_config_of_marian() -> None:
    config = GenerationConfig(
        **START, bad_words_ids=[[9]], forced_eos_token_id=0, num_beams=6, renormalize_logits=True
    )
    assert generation_of(config.to_dict()) == Generation(
        decoder_start_token_id=9,
        eos_token_id=(0,),
        pad_token_id=9,
        max_length=512,
        num_beams=6,
        suppress_tokens=(9,),
        forced_eos_token_id=0,
        renormalize_logits=True,
    )


def test_defaults_are_those_of_generate() -> None:
    generation = generation_of({"bos_token_id": 3, "eos_token_id": [2, 7]})
    assert generation.decoder_start_token_id == 3, "bos in the place of a missing start"
    assert generation.pad_token_id == 2, "the first end in the place of a missing pad"
    assert generation.max_length == 21, "20 new tokens"
    defaults = {field.name: field.default for field in fields(Generation)}
    assert {name: getattr(generation, name) for name in list(defaults)[4:]} == dict(
        list(defaults.items())[4:]
    )
    assert generation_of({**START, "eos_token_id": None, "pad_token_id": None}).eos_token_id == ()


def test_new_tokens_win_over_lengths() -> None:
    generation = generation_of({**START, "max_new_tokens": 30, "min_new_tokens": 4, "min_length": 9})
    assert (generation.max_length, generation.min_length) == (31, 5)


def test_single_bad_words_are_suppressed_but_for_ends() -> None:
    config = {
        **START,
        "bad_words_ids": [[9], [0], [8]],
        "suppress_tokens": [8, 2],
        "begin_suppress_tokens": [4, 1],
    }
    generation = generation_of(config)
    assert (generation.suppress_tokens, generation.begin_suppress_tokens) == ((2, 8, 9), (1, 4))


def test_without_a_start_token_it_says_what_to_do() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"neither decoder_start_token_id nor bos_token_id.*\n.*set"
    ):
        generation_of({"eos_token_id": 0, "decoder_start_token_id": None})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"do_sample": True}, r"asks for sampling.*\n.*take do_sample out"),
        ({"bad_words_ids": [[1], [2, 3]]}, r"a bad word of several tokens: \[2, 3\]"),
        ({"forced_eos_token_id": [0, 1]}, r"forces one of several ends: \[0, 1\]"),
        ({"forced_bos_token_id": 5, "suppress_tokens": [5]}, "both forces and forbids token 5"),
        ({"num_return_sequences": 3}, "num_return_sequences 3"),
        ({"num_beam_groups": 2}, "num_beam_groups 2"),
        ({"encoder_no_repeat_ngram_size": 3}, "encoder_no_repeat_ngram_size 3"),
        ({"encoder_repetition_penalty": 1.5}, "encoder_repetition_penalty"),
        ({"exponential_decay_length_penalty": [3, 1.1]}, "exponential_decay_length_penalty"),
        ({"sequence_bias": [[[3], 1.0]]}, "sequence_bias"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"remove_invalid_values": True}, "remove_invalid_values"),
        ({"stop_strings": ["."]}, "stop_strings"),
        ({"max_length": 1}, "max_length: expected at least 2, found 1"),
        ({"num_beams": "4"}, "num_beams: expected a whole number, found '4'"),
        ({"decoder_start_token_id": [1, 2]}, "decoder_start_token_id"),
        ({"early_stopping": "sometimes"}, "early_stopping"),
        ({"suppress_tokens": [-1]}, "suppress_tokens"),
    ],
)
def test_what_cannot_be_followed_is_said(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        generation_of({**START, **setting})


def test_what_changes_nothing_is_no_obstacle() -> None:
    neutral = {
        "do_sample": False,
        "temperature": 0.7,
        "top_k": 50,
        "num_return_sequences": 1,
        "num_beam_groups": 1,
        "diversity_penalty": 0.0,
        "encoder_repetition_penalty": 1.0,
        "encoder_no_repeat_ngram_size": 0,
        "remove_invalid_values": False,
        "use_cache": True,
        "transformers_version": "5.23.0",
    }
    assert generation_of({**START, **neutral}) == generation_of(START)
    assert generation_of(
        {**START, **GenerationConfig._get_default_generation_params(), "max_length": 512}
    ) == (generation_of(START))


# --- of speech --------------------------------------------------------------------------------------


def test_a_prompt_and_silence_are_kept(tmp_path: Path) -> None:
    generation = generation_of({**START, "prompt_ids": [3, 7], "no_speech_token_id": 6})
    assert (generation.prompt_ids, generation.no_speech_token_id) == ((3, 7), 6)
    write_generation(tmp_path, generation)
    assert read_generation(tmp_path) == generation


def test_a_file_of_before_speech_is_read(tmp_path: Path) -> None:
    write_generation(tmp_path, FULL)
    path = tmp_path / "generation.json"
    document = json.loads(path.read_text())
    for name in ("prompt_ids", "no_speech_token_id"):
        del document[name]
    path.write_text(json.dumps(document))
    assert read_generation(tmp_path) == FULL


def test_new_tokens_are_counted_after_the_prompt() -> None:
    generation = generation_of({**START, "prompt_ids": [3, 7], "max_new_tokens": 30, "min_new_tokens": 4})
    assert (generation.max_length, generation.min_length) == (33, 7)


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [("prompt_ids", (3, 50), 50), ("no_speech_token_id", 50, 50), ("suppress_tokens", (50,), 50)],
)
def test_tokens_beyond_a_model_are_named(tmp_path: Path, field: str, value: Any, found: int) -> None:
    check_tokens(tmp_path, FULL, 12)
    with pytest.raises(
        DamagedArtifactError, match=rf"{field} is {found}, and the model's tokens are below 50"
    ):
        check_tokens(tmp_path, replace(FULL, **{field: value}), 50)


@pytest.mark.parametrize(
    ("field", "value"), [("prompt_ids", [3, -1]), ("prompt_ids", 3), ("no_speech_token_id", [6])]
)
def test_a_senseless_prompt_is_damage(tmp_path: Path, field: str, value: Any) -> None:
    write_generation(tmp_path, FULL)
    path = tmp_path / "generation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(DamagedArtifactError, match=rf"generation\.json: {field}"):
        read_generation(tmp_path)
