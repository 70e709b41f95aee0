"""Times within a window, held against transformers' generate(return_timestamps=True)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.examples import Utterance
from edgelr.runtime.audio import SAMPLE_RATE, read_audio
from edgelr.runtime.generation import Generation
from edgelr.runtime.timestamps import Phrase, phrases_of, with_times, words_of
from edgelr.runtime.transcribe import Transcriber, generate, open_transcriber, text_of, transcribe
from edgelr.tasks.speech_folder import tokenizer_of
from edgelr.tasks.speech_model import FEATURES, collate, load_model
from edgelr.tasks.task import Reading

NEW = 23  # tokens after the start, of the 24 that the package allows


@pytest.fixture(scope="module")
def transcriber(timed_speech: Package, cpu: Device) -> Any:
    return open_transcriber(timed_speech, cpu)


@pytest.fixture(scope="module")
def reading(timed_whisper: Path, sounds: Path) -> Reading:
    return Reading(folder=timed_whisper, max_tokens=NEW + 1, sounds=sounds)


def told(reading: Reading, examples: Sequence[Utterance], **options: Any) -> Any:
    """What transformers makes of each sound, in one call a window."""
    model: Any = load_model(reading.folder)
    with torch.inference_mode():
        return model.generate(
            input_features=collate(reading, examples)[FEATURES],
            return_timestamps=True,
            force_unique_generate_call=True,
            max_new_tokens=NEW,
            **options,
        )


def pcm_of(reading: Reading, example: Utterance) -> Any:
    assert reading.sounds is not None
    return read_audio(reading.sounds / example.audio)


@pytest.mark.parametrize("beams", [1, 3])
def test_tokens_are_those_of_transformers(
    transcriber: Transcriber, reading: Reading, utterances: tuple[Utterance, ...], beams: int
) -> None:
    start = [transcriber.generation.decoder_start_token_id]
    (end,) = transcriber.generation.eos_token_id
    expected = [row[1:] for row in told(reading, utterances, num_beams=beams).tolist()]
    found = [generate(transcriber, pcm_of(reading, each), beams=beams, times=True) for each in utterances]
    assert found == [row[: row.index(end) + 1] if end in row else row for row in expected]
    first = transcriber.generation.no_timestamps_token_id
    assert first is not None
    assert start != found[0]
    counts = [sum(token > first for token in row) for row in found]
    assert max(counts) > 3, "several parts"
    assert len(set(map(tuple, found))) > 8, "or little was compared"


def test_phrases_are_the_segments_of_transformers(
    transcriber: Transcriber, reading: Reading, utterances: tuple[Utterance, ...]
) -> None:
    """Those between two times; what follows the last time transformers gives no end."""
    tokenizer, compared = tokenizer_of(reading), 0
    segments = told(reading, utterances, return_segments=True)["segments"]
    for example, theirs in zip(utterances, segments, strict=True):
        # Sounds shorter than the window: a model of random weights tells times after their end.
        padded = np.pad(pcm := pcm_of(reading, example), (0, transcriber.window - len(pcm)))
        (segment,) = transcribe(transcriber, [padded], times=True)
        words = [tokenizer.decode(each["tokens"], skip_special_tokens=True).strip() for each in theirs]
        expected = [
            (pytest.approx(float(each["start"])), pytest.approx(float(each["end"])), text)
            for each, text in zip(theirs, words, strict=True)
            if text
        ]
        found = [(each.start_s, each.end_s, each.text) for each in segment.phrases]
        if len(theirs) > 1:  # a single one begins with the window in transformers, whatever it tells
            assert found[: len(expected)] == expected
            compared += len(expected)
        assert (
            segment.text
            == "".join(
                tokenizer.decode(generate(transcriber, padded, beams=1, times=True), skip_special_tokens=True)
            ).strip()
        )
    assert compared > 15


def test_a_window_has_no_phrases_unless_asked_for(
    transcriber: Transcriber, dense_speech: Package, cpu: Device, speech: Callable[[int, float], Any]
) -> None:
    pcm = speech(0, 1.0)
    (plain,) = transcribe(transcriber, [pcm])
    assert plain.phrases == ()
    (timed,) = transcribe(transcriber, [pcm], times=True)
    assert timed.phrases
    assert timed.text.split() == " ".join(each.text for each in timed.phrases).split()
    assert all(0 <= each.start_s <= each.end_s <= 1.0 for each in timed.phrases), "within the sound"
    untimed = open_transcriber(dense_speech, cpu)
    assert list(transcribe(untimed, [pcm], times=True)) == list(transcribe(untimed, [pcm])), "it knows none"


def test_times_of_later_windows_count_from_the_beginning(
    transcriber: Transcriber, speech: Callable[[int, float], Any]
) -> None:
    pcm = np.concatenate([speech(number, 1.7) for number in range(3)])
    segments = list(transcribe(transcriber, [pcm], times=True))
    assert len(segments) > 2
    for segment in segments:
        assert all(segment.start_s <= each.start_s <= each.end_s <= segment.end_s for each in segment.phrases)
    assert segments[-1].phrases[0].start_s > 2.0
    assert segments[-1].end_s == len(pcm) / SAMPLE_RATE
    assert text_of(segments)


# --- without a model ------------------------------------------------------------------------------------

SETTINGS = Generation(
    decoder_start_token_id=0, eos_token_id=(1,), pad_token_id=0, max_length=9, no_timestamps_token_id=6
)


def decode(tokens: Sequence[int]) -> str:
    return " ".join(str(token) for token in tokens if token > 1)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([7, 2, 17, 17, 3, 4, 32, 1], [(5.0, 5.2, "2"), (5.2, 5.5, "3 4")]),
        ([2, 3, 1], [(5.0, 6.0, "2 3")]),
        ([12, 2, 17, 27, 3], [(5.1, 5.2, "2"), (5.4, 6.0, "3")]),
        ([7, 2, 99, 1], [(5.0, 6.0, "2")]),
        ([7, 17, 1], []),
        ([], []),
    ],
    ids=["pairs", "no times", "no end", "later than the window", "nothing said", "nobody"],
)
def test_phrases_are_what_is_between_times(
    tokens: list[int], expected: list[tuple[float, float, str]]
) -> None:
    found = phrases_of(tokens, SETTINGS, decode, 5.0, 6.0)
    assert [(round(each.start_s, 6), round(each.end_s, 6), each.text) for each in found] == expected
    assert all(isinstance(each, Phrase) for each in found)


def test_words_have_no_times() -> None:
    assert words_of([7, 2, 17, 17, 3, 1], SETTINGS) == [2, 3, 1]
    assert words_of([7, 2], replace(SETTINGS, no_timestamps_token_id=None)) == [7, 2]


def test_a_model_tells_times_if_it_may() -> None:
    prompted = replace(SETTINGS, prompt_ids=(5, 6))
    assert with_times(prompted, 20) == replace(SETTINGS, prompt_ids=(5,))
    assert with_times(prompted, 7) is None, "no token is left for a time"
    assert with_times(replace(prompted, suppress_tokens=(3, 7, 8, 9)), 10) is None
    assert with_times(replace(prompted, no_timestamps_token_id=None), 20) is None
