"""Translating with real ONNX graphs of a tiny random Marian, held against transformers itself."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MarianTokenizer

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.generation import read_generation, write_generation
from edgelr.runtime.translate import Translator, generate, open_translator, timed_translation, translate

TEXTS = (
    "Make a copy of the work in any medium, and prove it.",
    "a file",
    "Every stage, in order. Then what flows between them!",
    "x",
    "The hash of everything that can change it.",
    "🙂🙃 日本語 Ελλάδα \0 >>fra<<",
)


@pytest.fixture
def translator(translation_package: Package, cpu: Device) -> Translator:
    return open_translator(translation_package, cpu)


@pytest.fixture
def tokenizer(translation_package: Package) -> MarianTokenizer:
    return MarianTokenizer.from_pretrained(translation_package.folder)


def torch_translations(model: Any, tokenizer: MarianTokenizer, texts: Any, **options: Any) -> list[str]:
    """What transformers makes of a padded batch."""
    feeds = tokenizer(list(texts), return_tensors="pt", padding=True)
    with torch.inference_mode():
        found = model.generate(**feeds, generation_config=model.generation_config, **options)
    return tokenizer.batch_decode(found, skip_special_tokens=True)


# --- as transformers --------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_translations_are_those_of_transformers(
    translator: Translator, tokenizer: MarianTokenizer, marian_model: Any, beams: int, batch: int
) -> None:
    expected = torch_translations(marian_model, tokenizer, TEXTS, num_beams=beams)
    assert list(translate(translator, TEXTS, beams=beams, batch=batch)) == expected
    assert len(set(expected)) > 3, "or nothing was compared"


def test_the_packages_own_beams_are_the_default(
    translator: Translator, tokenizer: MarianTokenizer, marian_model: Any
) -> None:
    assert translator.generation.num_beams == 4
    assert list(translate(translator, TEXTS)) == torch_translations(marian_model, tokenizer, TEXTS)


def test_max_tokens_is_max_new_tokens(
    translator: Translator, tokenizer: MarianTokenizer, marian_model: Any
) -> None:
    expected = torch_translations(marian_model, tokenizer, TEXTS, max_new_tokens=3)
    assert list(translate(translator, TEXTS, max_tokens=3)) == expected


def test_a_translator_can_be_used_again(translator: Translator) -> None:
    first = list(translate(translator, TEXTS))
    assert list(translate(translator, TEXTS[::-1], beams=1))
    assert list(translate(translator, TEXTS)) == first


# --- any input --------------------------------------------------------------------------------------


def test_an_empty_text_is_not_run(translator: Translator) -> None:
    class Refusing:
        def read(self, *_: Any) -> None:
            raise AssertionError

    silent = replace(translator, decoder=Refusing())  # type: ignore[arg-type]
    assert list(translate(silent, ["", "  ", "\n\t\u3000"], batch=2)) == ["", "", ""]


def test_order_is_kept_whatever_the_batch(translator: Translator) -> None:
    texts = [*TEXTS, "", TEXTS[0], " ", *TEXTS] * 3
    one_by_one = list(translate(translator, texts, beams=1))
    assert list(translate(translator, texts, beams=1, batch=4)) == one_by_one
    assert one_by_one[6] == one_by_one[8] == ""


def test_each_text_is_taken_when_its_turn_comes(translator: Translator) -> None:
    taken: list[str] = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            taken.append(text)
            yield text

    found = translate(translator, texts(), beams=1)
    assert taken == []
    next(found)
    assert taken == [TEXTS[0]]


def test_a_long_text_is_translated_in_pieces_with_a_note(translator: Translator) -> None:
    notes: list[str] = []
    long = " ".join(TEXTS[:3]) + " " + "word " * 1000 + "y" * 500
    assert len(long) > 5000
    found = list(translate(translator, ["a file", long, "x"], beams=1, note=notes.append))
    (note,) = notes
    tokens, pieces = (int(word) for word in note.split() if word.isdigit() and word not in {"2", "48"})
    assert tokens == len(translator.codec.encode(long))
    assert (
        note == f"text 2 has {tokens} tokens, and this package takes 48: it was translated in {pieces} pieces"
    )
    assert pieces >= tokens // 48
    assert found[1].startswith(next(translate(translator, [TEXTS[0]], beams=1)))
    assert found[::2] == list(translate(translator, ["a file", "x"], beams=1))
    assert list(translate(translator, ["a file", long, "x"], beams=1, batch=5)) == found


def test_pieces_of_a_multilingual_text_keep_its_language(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[list[int]] = []
    read = translator.decoder.read
    monkeypatch.setattr(
        translator.decoder,
        "read",
        lambda source: (sources.append(source["input_ids"][0].tolist()), read(source)),
    )
    list(translate(translator, [">>deu<< " + "Every stage, in order. " * 20], beams=1))
    assert len(sources) > 1
    language = translator.codec.encode(">>deu<<")[0]
    assert [source.count(language) for source in sources] == [1] * len(sources)
    assert {source[0] for source in sources} == {language}
    assert max(map(len, sources)) <= 48


def test_half_a_surrogate_pair_is_no_crash(translator: Translator) -> None:
    found = list(translate(translator, ["a \udce9 file", "a \ufffd file"], beams=1))
    assert found[0] == found[1]


def test_a_prefix_goes_before_every_text(
    translator: Translator,
    translation_package: Package,
    reseal_translation: Callable[..., Package],
    cpu: Device,
) -> None:
    prefixed = open_translator(reseal_translation(translation_package.folder, prefix=">>fra<< "), cpu)
    expected = list(translate(translator, [f">>fra<< {text}" for text in TEXTS], beams=1))
    assert list(translate(prefixed, TEXTS, beams=1)) == expected


# --- timing -----------------------------------------------------------------------------------------


def test_a_timed_translation_has_as_many_tokens_as_asked(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    step = translator.decoder.step
    monkeypatch.setattr(translator.decoder, "step", lambda tokens: (steps.append(1), step(tokens))[1])
    read, first, total = timed_translation(translator, [translator.codec.encode("x")], 30)
    assert len(steps) == 30, "more than max_length, and past every end"
    assert 0 < read < first < total


def test_positions_that_a_graph_does_not_have_are_said(translator: Translator) -> None:
    with pytest.raises(UnsupportedModelError, match="ONNX Runtime fails on the graph 'decoder'"):
        timed_translation(translator, [translator.codec.encode("x")], 70)
    with pytest.raises(UnsupportedModelError, match=r"graph 'encoder' with input_ids \[1, 100\]"):
        generate(translator, [[3] * 100], beams=1)


# --- what does not belong together ------------------------------------------------------------------


def test_tokens_that_the_model_does_not_have_are_found(
    translation_package: Package, reseal_translation: Callable[..., Package], cpu: Device
) -> None:
    folder = translation_package.folder
    write_generation(folder, replace(read_generation(folder), suppress_tokens=(3, 9999)))
    with pytest.raises(DamagedArtifactError, match=r"generation\.json: suppress_tokens is 9999"):
        open_translator(reseal_translation(folder), cpu)


def test_a_tokenizer_of_a_larger_model_is_found(
    translation_package: Package, reseal_translation: Callable[..., Package], cpu: Device
) -> None:
    path = translation_package.folder / "vocab.json"
    vocabulary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**vocabulary, "larger": len(vocabulary)}), encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match="the tokenizer is not this model's"):
        open_translator(reseal_translation(translation_package.folder), cpu)


def test_settings_of_the_device_reach_both_sessions(translation_package: Package, cpu: Device) -> None:
    name = "optimization.disable_specified_optimizers"
    entries = {cpu.name: {name: "SkipLayerNormFusion"}}
    (translation_package.folder / "session.json").write_text(json.dumps(entries), encoding="utf-8")
    decoder = open_translator(translation_package, cpu).decoder
    for session in (decoder._encoder, decoder._decoder):
        assert session.get_session_options().get_session_config_entry(name) == "SkipLayerNormFusion"


def test_a_missing_generation_file_is_named(
    translation_package: Package, reseal_translation: Callable[..., Package], cpu: Device
) -> None:
    (translation_package.folder / "generation.json").unlink()
    with pytest.raises(DamagedArtifactError, match=r"generation\.json cannot be read"):
        open_translator(reseal_translation(Path(translation_package.folder)), cpu)
