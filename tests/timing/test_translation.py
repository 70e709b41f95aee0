"""A whole translation as one call."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.kinds.translation import timed_inputs
from edgelr.timing.feeds import feeds
from edgelr.timing.translation import PARTS, TimedTranslation
from edgelr.timing.worker import time_calls, warm_up


@pytest.fixture(scope="module")
def timed(dense_translator: Package, cpu: Device) -> TimedTranslation:
    return TimedTranslation(dense_translator.folder, cpu)


def steps_of(timed: TimedTranslation, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every step that is taken from now on."""
    steps: list[int] = []
    decoder = timed._translator.decoder
    real = decoder.step
    monkeypatch.setattr(decoder, "step", lambda tokens: (steps.append(len(tokens)), real(tokens))[1])
    return steps


def test_a_call_writes_as_many_tokens_as_it_is_told(
    timed: TimedTranslation, dense_translator: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, before = steps_of(timed, monkeypatch), len(timed.noted["first_ms"])
    for tokens in (1, 5, 40):
        steps.clear()
        timed.run(None, feeds(timed_inputs(dense_translator, tokens)))
        assert steps == [1] * tokens
    assert len(timed.noted["first_ms"]) == before + 3


def test_every_part_is_noted_for_every_call(timed: TimedTranslation, dense_translator: Package) -> None:
    given = feeds(timed_inputs(dense_translator, 20))
    times = time_calls(timed, given, seconds=0.05)
    assert tuple(timed.noted) == PARTS
    first, encoder, decoder = (timed.noted[name][-len(times) :] for name in PARTS)
    for whole, to_first, read, written in zip(times, first, encoder, decoder, strict=True):
        assert 0 < read < to_first < read + written < whole


def test_a_batch_is_one_call(timed: TimedTranslation, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = steps_of(timed, monkeypatch)
    timed.run(None, {"input_ids": np.array([[5, 6, 0], [7, 8, 0]]), "new_tokens": np.array(4)})
    assert steps == [2] * 4


def test_the_first_token_comes_before_the_last(timed: TimedTranslation, dense_translator: Package) -> None:
    given = feeds(timed_inputs(dense_translator, 40))
    assert warm_up(timed, given, seconds=0.0) == {"calls": 1, "settled": False}
    calls = len(timed.noted["first_ms"])
    times = time_calls(timed, given, seconds=0.2)
    firsts = timed.noted["first_ms"][-len(times) :]
    assert len(timed.noted["first_ms"]) > calls + len(times), "calls that settle count too"
    assert all(0 < first < whole for first, whole in zip(firsts, times, strict=True))
    assert sorted(firsts)[len(firsts) // 2] < sorted(times)[len(times) // 2] / 4, "one of forty tokens"


def test_more_tokens_than_there_are_positions_are_said(timed: TimedTranslation) -> None:
    with pytest.raises(UnsupportedModelError, match="ONNX Runtime fails on the graph 'decoder'"):
        timed.run(None, {"input_ids": np.array([[5, 0]]), "new_tokens": np.array(65)})


def test_a_package_that_was_changed_is_not_timed(
    dense_translator: Package, cpu: Device, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(dense_translator.folder, tmp_path / "p"))
    (folder / "generation.json").write_text("{}")
    with pytest.raises(DamagedArtifactError, match=r"generation\.json"):
        TimedTranslation(replace(dense_translator, folder=folder).folder, cpu)
