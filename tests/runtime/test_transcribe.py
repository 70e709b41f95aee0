"""Transcribing with real ONNX graphs of tiny random Whispers, held against transformers itself."""

import copy
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
from onnx import numpy_helper

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
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
    timed_transcript,
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
    """What transformers writes of each sound, up to and with the token that ends it."""
    language = {} if reading.source_language is None else {"language": reading.source_language}
    new = reading.max_tokens - 1 - len(prompt_of(model, reading))
    with torch.inference_mode():
        rows = model.generate(
            input_features=collate(reading, examples)[FEATURES],
            return_timestamps=False,
            **{"max_new_tokens": new, **language, **options},
        ).tolist()
    end = model.generation_config.eos_token_id
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


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
    found = [generate(transcriber, pcm, beams=beams) for pcm in sounds_of(speech_reading, utterances)]
    assert found == expected
    assert len(set(map(tuple, expected))) > 9, "or little was compared"
    assert len(set(map(len, expected))) > 2
    assert sum(row[-1] == transcriber.generation.eos_token_id[0] for row in expected) > 2


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
    found = [generate(other, pcm, beams=3) for pcm in sounds_of(speech_reading, utterances)]
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
    assert [generate(transcriber, pcm, beams=1, max_tokens=3) for pcm in sounds] == expected
    most = [generate(transcriber, pcm, beams=1, max_tokens=500) for pcm in sounds]
    assert most == [generate(transcriber, pcm, beams=1) for pcm in sounds]


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
    found = [generate(opened, pcm, beams=beams) for pcm in sounds_of(many_reading, utterances)]
    assert found == expected
    english = tokens_of(model, replace(many_reading, source_language="en"), utterances, num_beams=beams)
    assert english != expected, "the language matters"


# --- silence --------------------------------------------------------------------------------------------


def leaning(package: Package, token: int, logit: float) -> Package:
    """Make a token likely at every step: the decoder's last bias points to its row of the head."""
    path = package.folder / "decoder.onnx"
    proto = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    (bias,) = (tensor for name, tensor in tensors.items() if name.endswith("decoder.layer_norm.bias"))
    (head,) = (tensor for tensor in tensors.values() if 297 in tensor.dims)
    row = numpy_helper.to_array(head).reshape(32, 297)[:, token]
    changed = numpy_helper.to_array(bias) + logit * row / np.square(row).sum()
    bias.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), bias.name))
    onnx.save(proto, path)
    return package


@pytest.mark.parametrize("beams", [1, 3])
def test_where_nobody_speaks_there_is_no_text(
    package: Package, transcriber: Transcriber, cpu: Device, beams: int, speech: Spoken
) -> None:
    """The model must say so and be unsure of its words; of one that does not say so they are written."""
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert generate(transcriber, silence, beams=beams), "it never learned what silence is"
    silent = transcriber.generation.no_speech_token_id
    assert silent is not None
    opened = open_transcriber(leaning(package, silent, 30.0), cpu)
    assert generate(opened, silence, beams=beams) == []
    assert generate(opened, speech(0, 1.0), beams=beams) == []
    (segment,) = transcribe(opened, [silence], beams=beams)
    assert segment == Segment(start_s=0.0, end_s=1.0, text="")


@pytest.mark.parametrize("beams", [1, 3])
def test_a_package_without_such_a_token_always_writes(
    package: Package, transcriber: Transcriber, cpu: Device, beams: int
) -> None:
    silent = transcriber.generation.no_speech_token_id
    assert silent is not None
    generation = replace(read_generation(package.folder), no_speech_token_id=None)
    write_generation(package.folder, generation)
    opened = open_transcriber(leaning(package, silent, 30.0), cpu)
    assert generate(opened, np.zeros(SAMPLE_RATE, np.float32), beams=beams)


class Scripted:
    """A decoder with the same scores for any sound: the first ones, then those of a step's last token."""

    def __init__(self, first: list[float], after: dict[int, list[float]]) -> None:
        self._first, self._after = first, after

    def read(self, _: Any) -> None:
        pass

    def start(self, rows: int) -> None:
        self._begun = False

    def step(self, tokens: Any) -> Any:
        rows = [self._after[int(token)] if self._begun else self._first for token in tokens]
        self._begun = True
        return np.log(np.array(rows, np.float32))

    def reorder(self, rows: Any) -> None:
        pass


# Tokens: 0 the start, 1 the end, 2 the prompt, 3 silence, 4 and 5 words.
SILENT = [0.1, 0.02, 0.1, 0.7, 0.04, 0.04]
HEARD = [0.1, 0.02, 0.1, 0.5, 0.14, 0.14]
END = [0.01, 0.95, 0.01, 0.01, 0.01, 0.01]


def word(share: float) -> list[float]:
    """Scores that have word 4 at that share, and word 5 nearly never."""
    return [(1 - share) / 4] * 4 + [share, 1e-9]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("first", "share", "speaks"),
    [
        (SILENT, 0.9, True),  # sure of its words
        (SILENT, 0.3, True),  # the mean of log 0.3 and log 0.95 is above -1
        (SILENT, 0.12, False),
        (HEARD, 0.12, True),  # it is not likely that nobody speaks
    ],
)
def test_only_doubtful_words_of_likely_silence_are_left_out(
    transcriber: Transcriber, first: list[float], share: float, speaks: bool, beams: int
) -> None:
    generation = replace(
        transcriber.generation,
        decoder_start_token_id=0,
        eos_token_id=(1,),
        prompt_ids=(2,),
        no_speech_token_id=3,
        suppress_tokens=(),
        begin_suppress_tokens=(1,),
        no_repeat_ngram_size=0,
        max_length=6,
    )
    decoder = Scripted(first, {2: [share / 4, 1e-9, share / 4, share / 4, share, 1e-9], 4: END, 5: END})
    if share > 0.2:
        decoder = Scripted(first, {2: word(share), 4: END, 5: END, 0: END, 3: END})
    else:
        flat = [1.0 / 6] * 6
        decoder = Scripted(first, {2: flat, 4: [0.2, 0.21, 0.2, 0.2, 0.1, 0.09]} | dict.fromkeys((0, 3, 5), END))
    scripted = replace(transcriber, decoder=decoder, generation=generation)
    found = generate(scripted, np.zeros(WINDOW, np.float32), beams=beams)
    assert bool(found) == speaks


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


# --- timing ---------------------------------------------------------------------------------------------


def test_a_timed_transcript_has_as_many_tokens_as_asked(
    transcriber: Transcriber, speech: Spoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    step = transcriber.decoder.step
    monkeypatch.setattr(transcriber.decoder, "step", lambda tokens: (steps.append(1), step(tokens))[1])
    for new in (1, 25):
        steps.clear()
        times = timed_transcript(transcriber, speech(0, 1.0), new)
        assert len(steps) == new + len(transcriber.generation.prompt_ids), "past every end"
        assert len(times) == 3
        assert min(times) > 0


def test_positions_that_a_graph_does_not_have_are_said(transcriber: Transcriber, speech: Spoken) -> None:
    with pytest.raises(UnsupportedModelError, match="ONNX Runtime fails on the graph 'decoder'"):
        timed_transcript(transcriber, speech(0, 1.0), 40)


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


def test_an_encoder_of_texts_is_none_of_sounds(
    package: Package, translation_package: Package, cpu: Device
) -> None:
    for role in ("encoder", "decoder"):
        shutil.copyfile(translation_package.folder / f"{role}.onnx", package.folder / f"{role}.onnx")
    with pytest.raises(DamagedArtifactError, match="inputs of the graph 'encoder' are not those"):
        open_transcriber(package, cpu)


def test_settings_of_the_device_reach_every_session(package: Package, cpu: Device) -> None:
    name = "optimization.disable_specified_optimizers"
    entries = {cpu.name: {name: "SkipLayerNormFusion"}}
    (package.folder / "session.json").write_text(json.dumps(entries), encoding="utf-8")
    opened = open_transcriber(package, cpu)
    for session in (opened.features, opened.decoder._encoder, opened.decoder._decoder):
        assert session.get_session_options().get_session_config_entry(name) == "SkipLayerNormFusion"
