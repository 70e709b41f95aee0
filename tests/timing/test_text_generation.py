"""Going on with a text as one call."""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.kinds.text_generation import timed, timed_inputs
from edgelr.timing.feeds import feeds
from edgelr.timing.text_generation import TimedContinuation
from edgelr.timing.worker import open_timed, time_calls


@pytest.fixture(scope="module")
def session(dense_writer: Package, cpu: Device) -> Iterator[TimedContinuation]:
    request = {"device": asdict(cpu), **timed(dense_writer, cpu)}
    opened, reply = open_timed(request)
    assert isinstance(opened, TimedContinuation)
    assert reply["load_ms"] > 0
    yield opened


def test_a_call_reads_a_prompt_at_once_and_writes_as_many_tokens(
    session: TimedContinuation, dense_writer: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, steps = session._writer.decoder, list[int]()
    real = decoder.step
    monkeypatch.setattr(decoder, "step", lambda tokens: (steps.append(np.size(tokens)), real(tokens))[1])
    session.run(None, feeds(timed_inputs(dense_writer, 20)))
    assert steps == [20] + [1] * 19


def test_the_first_token_comes_before_the_last(session: TimedContinuation, dense_writer: Package) -> None:
    times = time_calls(session, feeds(timed_inputs(dense_writer, 30)), seconds=0.1)
    firsts = session.noted["first_ms"][-len(times) :]
    assert all(0 < first < whole for first, whole in zip(firsts, times, strict=True))
