"""A whole transcript as one call."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError, DataError
from edgelr.examples import Utterance, write_examples
from edgelr.kinds.speech import timed_inputs
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.runtime.package import seal_package
from edgelr.runtime.tokens import open_codec
from edgelr.timing.feeds import feeds
from edgelr.timing.speech import PARTS, TimedTranscript, speech_of_length, tokens_a_second
from edgelr.timing.worker import time_calls, warm_up

RATE = 16_000


@pytest.fixture(scope="module")
def timed(dense_speech: Package, cpu: Device) -> TimedTranscript:
    return TimedTranscript(dense_speech.folder, cpu)


def seal_again(package: Package, folder: Path) -> Package:
    return seal_package(
        folder,
        name=package.name,
        task=package.task,
        graphs=package.graphs,
        precision=package.precision,
        cost=package.cost,
        settings=package.settings,
        source=package.source,
        gates=(),
        accuracy={},
    )


@pytest.fixture
def calls(timed: TimedTranscript, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each part runs from now on."""
    found = {"read": 0, "step": 0}
    decoder = timed._transcriber.decoder

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(given: Any) -> Any:
            found[name] += 1
            return real(given)

        return called

    for name in found:
        monkeypatch.setattr(decoder, name, counted(name, getattr(decoder, name)))
    return found


def run(timed: TimedTranscript, package: Package, seconds: int) -> None:
    timed.run(None, feeds(timed_inputs(package, seconds)))


def test_a_call_writes_as_many_tokens_as_people_say_in_that_time(
    timed: TimedTranscript, dense_speech: Package, calls: dict[str, int]
) -> None:
    pace = tokens_a_second(dense_speech)
    run(timed, dense_speech, 1)
    prompt = 1
    assert calls == {"read": 1, "step": prompt + round(pace)}
    run(timed, dense_speech, 2)
    assert calls == {"read": 2, "step": 2 * prompt + round(pace) + round(2 * pace)}


def test_more_than_a_window_is_several(
    timed: TimedTranscript, dense_speech: Package, calls: dict[str, int]
) -> None:
    run(timed, dense_speech, 5)
    assert calls["read"] >= 3


def test_every_part_is_noted_for_every_call(timed: TimedTranscript, dense_speech: Package) -> None:
    before = {name: len(times) for name, times in timed.noted.items()}
    run(timed, dense_speech, 1)
    run(timed, dense_speech, 2)
    assert tuple(timed.noted) == PARTS
    assert {name: len(times) - before[name] for name, times in timed.noted.items()} == dict.fromkeys(PARTS, 2)
    assert all(min(times) > 0 for times in timed.noted.values())


def test_parts_are_less_than_the_whole(timed: TimedTranscript, dense_speech: Package) -> None:
    given = feeds(timed_inputs(dense_speech, 2))
    assert warm_up(timed, given, seconds=0.0) == {"calls": 1, "settled": False}
    times = time_calls(timed, given, seconds=0.1)
    parts = [sum(each) for each in zip(*(timed.noted[name][-len(times) :] for name in PARTS), strict=True)]
    assert all(0 < part < whole for part, whole in zip(parts, times, strict=True))


def test_the_pace_is_that_of_the_examples(dense_speech: Package) -> None:
    codec = open_codec(dense_speech.folder, dense_speech.settings)
    examples = folder_examples(dense_speech.folder, Utterance)
    tokens = sum(len(codec.encode_plain(example.text)) for example in examples)
    seconds = sum(len(example_sound(dense_speech.folder, example)) for example in examples) / RATE
    assert tokens_a_second(dense_speech) == pytest.approx(tokens / seconds)


@pytest.mark.parametrize("seconds", [1, 3, 40])
def test_speech_of_any_length_is_the_examples_one_after_the_other(
    dense_speech: Package, seconds: int
) -> None:
    found = speech_of_length(dense_speech, seconds)
    assert len(found) == seconds * RATE
    examples = folder_examples(dense_speech.folder, Utterance)
    whole = np.concatenate([example_sound(dense_speech.folder, example) for example in examples])
    repeated = np.tile(whole, 1 + len(found) // len(whole))
    assert np.array_equal(found, repeated[: len(found)])


def test_a_package_that_was_changed_is_not_timed(dense_speech: Package, cpu: Device, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dense_speech.folder, tmp_path / "p"))
    (folder / "generation.json").write_text("{}")
    with pytest.raises(DamagedArtifactError, match=r"generation\.json"):
        TimedTranscript(folder, cpu)


def test_a_package_without_its_sounds_cannot_be_timed(
    dense_speech: Package, cpu: Device, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(dense_speech.folder, tmp_path / "p"))
    shutil.rmtree(folder / "audio")
    with pytest.raises(DataError, match=r"has no audio/: .* were taken out"):
        TimedTranscript(folder, cpu)


def test_no_more_tokens_are_written_than_a_transcript_may_have(
    dense_speech: Package, cpu: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a real transcript: the model has 32 positions, however fast people speak."""
    folder = Path(shutil.copytree(dense_speech.folder, tmp_path / "p"))
    examples = folder_examples(folder, Utterance)
    write_examples(folder / "examples.jsonl", [replace(each, text="x" * 100) for each in examples])
    fast = seal_again(dense_speech, folder)
    assert tokens_a_second(fast) > 32
    timed = TimedTranscript(folder, cpu)
    steps: list[int] = []
    decoder: Any = timed._transcriber.decoder
    step = decoder.step
    monkeypatch.setattr(decoder, "step", lambda tokens: (steps.append(1), step(tokens))[1])
    run(timed, fast, 1)
    assert len(steps) == 24 - 1
