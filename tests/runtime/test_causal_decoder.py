"""A causal language model's graph: prompts and single tokens give the same, with room in the buffers."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.causal_decoder import CausalDecoder, text_feeds
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path

IDS = np.random.default_rng(0).integers(3, 300, 50)


@pytest.fixture
def decoder(dense_writer: Package, cpu: Device) -> CausalDecoder:
    found = CausalDecoder(open_session(model_path(dense_writer, "decoder"), cpu, entries={}))
    found.start()
    return found


def test_a_prompt_is_the_same_at_once_and_token_by_token(decoder: CausalDecoder) -> None:
    single = np.concatenate([decoder.step(IDS[place : place + 1]).copy() for place in range(len(IDS))])
    decoder.start()
    whole = decoder.scores(IDS)
    assert whole.shape == (50, decoder.vocabulary)
    np.testing.assert_allclose(single, whole, atol=1e-4)  # sums of other orders


@pytest.mark.parametrize("split", [1, 2, 31, 33, 49])
def test_a_prompt_may_come_in_parts_whatever_room_there_is(decoder: CausalDecoder, split: int) -> None:
    """A buffer has room for 32 tokens at first."""
    whole = decoder.step(IDS[None])[0].copy()
    decoder.start()
    decoder.step(IDS[None, :split])
    np.testing.assert_allclose(decoder.step(IDS[None, split:])[0], whole, atol=1e-4)


def test_a_text_that_was_read_leaves_nothing_behind(decoder: CausalDecoder) -> None:
    first = decoder.step(IDS[None, :5])[0].copy()
    decoder.step(IDS[5:6])
    decoder.start()
    np.testing.assert_array_equal(decoder.step(IDS[None, :5])[0], first)


def test_feeds_read_a_text_at_once(decoder: CausalDecoder, dense_writer: Package, cpu: Device) -> None:
    inputs = {entry.name: list(entry.shape) for entry in dense_writer.graphs["decoder"].inputs}
    session = open_session(model_path(dense_writer, "decoder"), cpu, entries={})
    found = run_graph(session, text_feeds(inputs, IDS))["logits"][0]
    np.testing.assert_allclose(found, decoder.scores(IDS), atol=1e-4)


def test_another_graph_is_refused(dense_writer: Package, cpu: Device, tmp_path: Path) -> None:
    path = Path(shutil.copy(model_path(dense_writer, "decoder"), tmp_path / "decoder.onnx"))
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    model.graph.output[0].name = "scores"
    onnx.save(model, path)
    with pytest.raises(
        DamagedArtifactError, match=r"outputs of the graph 'decoder'.*missing logits, unknown"
    ):
        CausalDecoder(open_session(path, cpu, entries={}))


def test_a_token_that_the_graph_does_not_know_is_said(decoder: CausalDecoder) -> None:
    with pytest.raises(UnsupportedModelError, match=r"fails on the graph 'decoder' with input_ids \[1, 1\]"):
        decoder.step(np.array([10**6]))
