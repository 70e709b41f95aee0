"""A transcript that is timed, of a tiny random Whisper."""

from collections.abc import Callable
from typing import Any

import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import UnsupportedModelError
from edgelr.runtime.timed_transcript import timed_transcript
from edgelr.runtime.transcribe import Transcriber, open_transcriber

Spoken = Callable[[int, float], Any]


@pytest.fixture(scope="module")
def transcriber(dense_speech: Package, cpu: Device) -> Any:
    return open_transcriber(dense_speech, cpu)


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
