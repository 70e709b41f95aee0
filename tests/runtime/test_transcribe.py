"""Transcribing with real ONNX graphs of tiny random Whispers, held against transformers itself."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError
from edgelr.examples import Utterance
from edgelr.runtime.audio import SAMPLE_RATE, read_audio
from edgelr.runtime.generation import read_generation, write_generation
from edgelr.runtime.long_audio import windows_of
from edgelr.runtime.transcribe import (
    Segment,
    Transcriber,
    generate,
    open_transcriber,
    padded_window,
    text_of,
    transcribe,
)
from edgelr.tasks.speech_losses import transcribed
from edgelr.tasks.speech_model import FEATURES, collate, load_model, prompt_of
from edgelr.tasks.task import Reading

WINDOW = 32_000
Spoken = Callable[[int, float], Any]


@pytest.fixture(scope="module")
def transcriber(dense_speech: Package, cpu: Device) -> Transcriber:
    return open_transcriber(dense_speech, cpu)


@pytest.fixture(scope="module")
def model(tiny_whisper: Path) -> Any:
    return load_model(tiny_whisper)


@pytest.fixture
def package(dense_speech: Package, tmp_path: Path) -> Package:
    """A copy to change; its files are not held against its manifest here."""
    folder = Path(shutil.copytree(dense_speech.folder, tmp_path / "package"))
    return replace(dense_speech, folder=folder)


def tokens_of(model: Any, reading: Reading, examples: Sequence[Utterance], **options: Any) -> list[list[int]]:
    """What transformers writes of each sound, without the token that ends it."""
    language = {} if reading.source_language is None else {"language": reading.source_language}
    new = reading.max_tokens - 1 - len(prompt_of(model, reading))
    with torch.inference_mode():
        rows = model.generate(
            input_features=collate(reading, examples)[FEATURES],
            return_timestamps=False,
            **{"max_new_tokens": new, **language, **options},
        ).tolist()
    end = model.generation_config.eos_token_id
    return [row[: row.index(end)] if end in row else row for row in rows]


def words(transcriber: Transcriber, pcm: Any, beams: int = 1, max_tokens: int | None = None) -> list[int]:
    """What the package writes of a sound, likewise: transformers drops some ends."""
    found = generate(transcriber, pcm, beams=beams, max_tokens=max_tokens)
    return found[:-1] if found[-1] in transcriber.generation.eos_token_id else found


def sounds_of(reading: Reading, examples: Sequence[Utterance]) -> Iterator[Any]:
    assert reading.sounds is not None
    for example in examples:
        yield read_audio(reading.sounds / example.audio)


# --- as transformers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_transcripts_are_those_of_transformers(
    transcriber: Transcriber,
    model: Any,
    speech_reading: Reading,
    utterances: tuple[Utterance, ...],
    beams: int,
) -> None:
    expected = tokens_of(model, speech_reading, utterances, num_beams=beams)
    found = [words(transcriber, pcm, beams) for pcm in sounds_of(speech_reading, utterances)]
    assert found == expected
    assert len(set(map(tuple, expected))) > 9, "or little was compared"
    assert len(set(map(len, expected))) > 2, "some end"


@pytest.mark.parametrize(
    "options", [{"length_penalty": 2.0}, {"length_penalty": 0.2, "early_stopping": True}]
)
def test_so_are_beams_of_other_settings(
    transcriber: Transcriber,
    model: Any,
    speech_reading: Reading,
    utterances: tuple[Utterance, ...],
    options: dict[str, Any],
) -> None:
    expected = tokens_of(model, speech_reading, utterances, num_beams=3, **options)
    other = replace(transcriber, generation=replace(transcriber.generation, **options))
    found = [words(other, pcm, 3) for pcm in sounds_of(speech_reading, utterances)]
    assert found == expected


def test_texts_are_those_of_transformers(
    transcriber: Transcriber, model: Any, speech_reading: Reading, utterances: tuple[Utterance, ...]
) -> None:
    expected = transcribed(model, speech_reading, utterances)
    found = [text_of(transcribe(transcriber, [pcm])) for pcm in sounds_of(speech_reading, utterances)]
    assert found == [" ".join(text.split()) for text in expected]
    assert all(found)


def test_max_tokens_is_max_new_tokens(
    transcriber: Transcriber, model: Any, speech_reading: Reading, utterances: tuple[Utterance, ...]
) -> None:
    """A prompt is none of them."""
    expected = tokens_of(model, speech_reading, utterances, max_new_tokens=3)
    sounds = list(sounds_of(speech_reading, utterances))
    assert [words(transcriber, pcm, max_tokens=3) for pcm in sounds] == expected
    most = [words(transcriber, pcm, max_tokens=500) for pcm in sounds]
    assert most == [words(transcriber, pcm) for pcm in sounds]


@pytest.fixture(scope="module")
def many_package(
    many_whisper: Path, export_whisper: Callable[..., Package], tmp_path_factory: pytest.TempPathFactory
) -> Package:
    return export_whisper(many_whisper, tmp_path_factory.mktemp("many") / "home", language="de")


@pytest.mark.parametrize("beams", [1, 3])
def test_a_model_of_many_languages_hears_the_recipes(
    many_package: Package,
    many_whisper: Path,
    many_reading: Reading,
    utterances: tuple[Utterance, ...],
    cpu: Device,
    beams: int,
) -> None:
    model = load_model(many_whisper)
    opened = open_transcriber(many_package, cpu)
    names = opened.codec.decode(opened.generation.prompt_ids), len(opened.generation.prompt_ids)
    assert names == ("", 3), "language, task and format are no text"
    expected = tokens_of(model, many_reading, utterances, num_beams=beams)
    found = [words(opened, pcm, beams) for pcm in sounds_of(many_reading, utterances)]
    assert found == expected
    english = tokens_of(model, replace(many_reading, source_language="en"), utterances, num_beams=beams)
    assert english != expected, "the language matters"


# --- silence --------------------------------------------------------------------------------------------


def leaning(package: Package, token: int, scale: float = 0.1) -> Package:
    """Make a token likely at every step; with a small ``scale`` all others are about equally likely."""
    path = package.folder / "decoder.onnx"
    proto = onnx.load(path)
    (head,) = (node for node in proto.graph.node if "logits" in node.output)
    head.output[list(head.output).index("logits")] = "plain_logits"
    vocabulary = proto.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    added = 100 * (np.arange(vocabulary) == token)
    numbers = {"scale": np.array(scale), "added": added}
    proto.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in numbers.items()
    )
    proto.graph.node.append(helper.make_node("Mul", ["plain_logits", "scale"], ["scaled_logits"]))
    proto.graph.node.append(helper.make_node("Add", ["scaled_logits", "added"], ["logits"]))
    onnx.save(proto, path)
    return package


@pytest.mark.parametrize("beams", [1, 3])
def test_where_nobody_speaks_there_is_no_text(
    package: Package, transcriber: Transcriber, cpu: Device, beams: int, speech: Spoken
) -> None:
    """Of a model that says so and is unsure of its words; if it does not say so, it has to write."""
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert generate(transcriber, silence, beams=beams), "it never learned what silence is"
    silent = transcriber.generation.no_speech_token_id
    assert silent is not None
    opened = open_transcriber(leaning(package, silent), cpu)
    assert generate(opened, silence, beams=beams) == []
    assert generate(opened, speech(0, 1.0), beams=beams) == []
    (segment,) = transcribe(opened, [silence], beams=beams)
    assert segment == Segment(start_s=0.0, end_s=1.0, text="")


def test_sure_words_are_written_whatever_it_thinks(
    package: Package, transcriber: Transcriber, cpu: Device, speech: Spoken
) -> None:
    silent = transcriber.generation.no_speech_token_id
    assert silent is not None
    opened = open_transcriber(leaning(package, silent, scale=5.0), cpu)
    found = [generate(opened, speech(number, 1.0), beams=1) for number in range(6)]
    assert found == [generate(transcriber, speech(number, 1.0), beams=1) for number in range(6)]
    assert all(found)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_package_without_such_a_token_always_writes(
    package: Package, transcriber: Transcriber, cpu: Device, beams: int
) -> None:
    silent = transcriber.generation.no_speech_token_id
    assert silent is not None
    generation = replace(read_generation(package.folder), no_speech_token_id=None)
    write_generation(package.folder, generation)
    opened = open_transcriber(leaning(package, silent), cpu)
    assert generate(opened, np.zeros(SAMPLE_RATE, np.float32), beams=beams)


# --- long sounds ----------------------------------------------------------------------------------------


def test_a_long_sound_is_cut_and_joined(transcriber: Transcriber, speech: Spoken) -> None:
    pcm = np.concatenate([speech(number, 1.7) for number in range(4)])
    blocks = [pcm[at : at + 5000] for at in range(0, len(pcm), 5000)]
    segments = list(transcribe(transcriber, blocks))
    windows = list(windows_of([pcm], WINDOW, SAMPLE_RATE))
    assert len(segments) == len(windows) > 3
    for segment, window in zip(segments, windows, strict=True):
        alone = transcriber.codec.decode(generate(transcriber, window.pcm, beams=1)).strip()
        assert segment == Segment(
            start_s=window.start_s, end_s=window.end_s, text=alone, overlap_s=window.overlap_s
        )
    assert segments[-1].end_s == len(pcm) / SAMPLE_RATE
    assert len(text_of(segments).split()) >= max(len(segment.text.split()) for segment in segments)


def test_a_window_is_transcribed_as_soon_as_it_is_there(transcriber: Transcriber, speech: Spoken) -> None:
    taken: list[int] = []

    def blocks() -> Iterator[Any]:
        for number in range(20):
            taken.append(number)
            yield speech(number, 0.5)

    found = transcribe(transcriber, blocks())
    assert taken == []
    next(found)
    assert len(taken) == 5, "2.5 seconds, which is more than a window"


def test_nothing_in_is_nothing_out(transcriber: Transcriber) -> None:
    assert list(transcribe(transcriber, [])) == []
    assert text_of([]) == ""


def segment(text: str, overlap_s: float = 0.0) -> Segment:
    return Segment(start_s=0.0, end_s=1.0, text=text, overlap_s=overlap_s)


def test_words_in_an_overlap_are_told_once() -> None:
    assert text_of([segment("one two three"), segment("three four", 0.5)]) == "one two three four"
    assert text_of([segment("one two three"), segment("three four")]) == "one two three three four"
    assert text_of([segment("one three"), segment("", 0.5), segment("three four", 0.5)]) == (
        "one three three four"
    ), "what nobody said before the overlap cannot be said again in it"
    assert text_of([segment("  one "), segment("two")]) == "one two"


@pytest.mark.parametrize("samples", [1, 2, 159, WINDOW - 1, WINDOW])
def test_any_length_up_to_a_window_can_be_heard(
    transcriber: Transcriber, speech: Spoken, samples: int
) -> None:
    (found,) = transcribe(transcriber, [speech(3, 2.0)[:samples]])
    assert found.end_s == samples / SAMPLE_RATE


def test_a_window_is_filled_with_silence() -> None:
    padded = padded_window(np.ones(3, np.float32), 5)
    assert padded.tolist() == [[1, 1, 1, 0, 0]]
    assert padded.dtype == np.float32


def test_a_transcriber_can_be_used_again(transcriber: Transcriber, speech: Spoken) -> None:
    first = generate(transcriber, speech(1, 1.0), beams=1)
    assert generate(transcriber, speech(2, 2.0), beams=4)
    assert generate(transcriber, speech(1, 1.0), beams=1) == first


# --- what does not belong together ----------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 0, -1, "32000"])
def test_a_window_that_is_no_count_is_damage(package: Package, cpu: Device, window: Any) -> None:
    settings = {name: value for name, value in package.settings.items() if name != "window_samples"}
    if window is not None:
        settings["window_samples"] = window
    with pytest.raises(DamagedArtifactError, match=r"settings\.window_samples is .*, not a count"):
        open_transcriber(replace(package, settings=settings), cpu)


def test_a_tokenizer_of_a_larger_model_is_found(package: Package, cpu: Device, many_whisper: Path) -> None:
    shutil.copyfile(many_whisper / "tokenizer.json", package.folder / "tokenizer.json")
    with pytest.raises(DamagedArtifactError, match="the tokenizer is not this model's"):
        open_transcriber(package, cpu)


@pytest.mark.parametrize("change", [{"prompt_ids": (5, 9999)}, {"no_speech_token_id": 9999}])
def test_tokens_that_the_model_does_not_have_are_found(
    package: Package, cpu: Device, change: dict[str, Any]
) -> None:
    write_generation(package.folder, replace(read_generation(package.folder), **change))
    with pytest.raises(DamagedArtifactError, match=rf"generation\.json: {next(iter(change))} is 9999"):
        open_transcriber(package, cpu)


def test_a_package_without_its_features_is_damaged(package: Package, cpu: Device) -> None:
    graphs = {role: graph for role, graph in package.graphs.items() if role != "features"}
    with pytest.raises(DamagedArtifactError, match="there is no graph 'features'"):
        open_transcriber(replace(package, graphs=graphs), cpu)


def test_an_encoder_of_texts_is_none_of_sounds(package: Package, cpu: Device) -> None:
    path = package.folder / "encoder.onnx"
    proto = onnx.load(path)
    (given,) = proto.graph.input
    for node in proto.graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = "input_ids" if name == given.name else name
    given.name = "input_ids"
    onnx.save(proto, path)
    with pytest.raises(DamagedArtifactError, match="inputs of the graph 'encoder' are not those") as caught:
        open_transcriber(package, cpu)
    assert "missing input_features, unknown input_ids" in str(caught.value)


def test_settings_of_the_device_reach_every_session(package: Package, cpu: Device) -> None:
    name = "optimization.disable_specified_optimizers"
    entries = {cpu.name: {name: "SkipLayerNormFusion"}}
    (package.folder / "session.json").write_text(json.dumps(entries), encoding="utf-8")
    opened = open_transcriber(package, cpu)
    for session in (opened.features, opened.decoder._encoder, opened.decoder._decoder):
        assert session.get_session_options().get_session_config_entry(name) == "SkipLayerNormFusion"
