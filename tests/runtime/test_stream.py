"""Texts while somebody speaks: of a tiny random wav2vec2, whose windows are two seconds."""

import itertools
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.runtime import stream as stream_module
from edgelr.runtime.audio import SAMPLE_RATE
from edgelr.runtime.stream import stream
from edgelr.runtime.transcribe import CtcTranscriber, Transcriber, open_transcriber, text_of, transcribe

Spoken = Callable[[int, float], Any]
BLOCK = 1600  # a tenth of a second, as a microphone gives it


@pytest.fixture(scope="module")
def transcriber(ctc_package: Package, cpu: Device) -> Any:
    found = open_transcriber(ctc_package, cpu)
    assert isinstance(found, CtcTranscriber)
    return found


@pytest.fixture(scope="module")
def speech_of_a_while(speech: Spoken) -> Any:
    """Some with silences, some without."""
    parts = [speech(number, 1.7) for number in range(4)]
    return np.concatenate([parts[0], np.zeros(6000, np.float32), *parts[1:], np.zeros(4000, np.float32)])


def blocks_of(pcm: Any, size: int = BLOCK) -> Iterator[Any]:
    yield from (pcm[at : at + size] for at in range(0, len(pcm), size))


@pytest.mark.parametrize("size", [BLOCK, 160, 7777])
@pytest.mark.parametrize("beams", [1, 4])
def test_the_final_text_is_that_of_the_whole_file(
    transcriber: CtcTranscriber, speech_of_a_while: Any, size: int, beams: int
) -> None:
    whole = list(transcribe(transcriber, [speech_of_a_while], beams=beams))
    found = list(stream(transcriber, blocks_of(speech_of_a_while, size), beams=beams))
    assert [each for each in found if each.final] == whole
    assert len(whole) > 3
    assert {each.overlap_s for each in whole} == {0.0, 0.5}, "cut at silences, and elsewhere"
    assert text_of(each for each in found if each.final) == text_of(whole) != ""


def test_texts_come_before_their_window_is_whole(
    transcriber: CtcTranscriber, speech_of_a_while: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_REST", 0.0)  # however slow this machine is
    found = list(stream(transcriber, blocks_of(speech_of_a_while), every_s=0.3))
    early = [each for each in found if not each.final]
    assert len(early) > 12
    assert sum(bool(each.text) for each in early) > 10
    for each in early[:5]:
        samples = round(each.end_s * SAMPLE_RATE)
        (alone,) = transcribe(transcriber, [speech_of_a_while[:samples]])
        assert each.text == alone.text, "the context is the window so far"
    for one, two in itertools.pairwise(found):
        assert two.start_s == one.start_s or one.final, "it takes the place of the one before"


def test_blocks_are_taken_one_by_one(transcriber: CtcTranscriber, speech: Spoken) -> None:
    taken: list[int] = []

    def blocks() -> Iterator[Any]:
        for number in range(40):
            taken.append(number)
            yield speech(number % 4, 0.1)

    found = stream(transcriber, blocks(), every_s=0.5)
    assert taken == []
    assert next(found).end_s == 0.5
    assert len(taken) == 5, "none is waited for but the next"


def test_a_slow_device_shows_less_and_hears_all(
    transcriber: CtcTranscriber, speech_of_a_while: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = stream_module.hear

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.2)
        return heard(*arguments, **options)

    monkeypatch.setattr(stream_module, "hear", slowly)
    monkeypatch.setattr(stream_module, "_REST", 5.0)
    found = list(stream(transcriber, blocks_of(speech_of_a_while), every_s=0.1))
    assert [each for each in found if each.final] == list(transcribe(transcriber, [speech_of_a_while]))
    ends = [each.end_s for each in found]
    late = [two - one for one, two, each in zip(ends, ends[1:], found[1:], strict=False) if not each.final]
    assert all(gap >= 0.99 for gap in late), "five times as long as it took to hear the last"


def test_memory_does_not_grow_with_the_sound(transcriber: CtcTranscriber, speech: Spoken) -> None:
    held = most = 0

    def let_go(samples: int) -> None:
        nonlocal held
        held -= samples

    def blocks() -> Iterator[Any]:
        nonlocal held, most
        for number in range(400):
            block = speech(number % 7, 0.1)
            weakref.finalize(block, let_go, len(block))
            held += len(block)
            most = max(most, held)
            yield block

    for _ in stream(transcriber, blocks(), every_s=1.0):
        pass
    assert most <= transcriber.window + 2 * BLOCK, "of forty seconds"


def test_a_model_that_writes_can_be_streamed_too(dense_speech: Package, cpu: Device, speech: Spoken) -> None:
    opened = open_transcriber(dense_speech, cpu)
    assert isinstance(opened, Transcriber)
    pcm = np.concatenate([speech(number, 1.7) for number in range(2)])
    found = list(stream(opened, blocks_of(pcm), every_s=1.0))
    assert [each for each in found if each.final] == list(transcribe(opened, [pcm]))
    assert any(not each.final for each in found)


def test_nothing_in_is_nothing_out(transcriber: CtcTranscriber) -> None:
    assert list(stream(transcriber, [])) == []
