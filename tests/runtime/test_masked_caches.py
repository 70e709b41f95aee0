"""Buffers under a mask by themselves; a decoder with them is in test_decoder_graph.py, too."""

from pathlib import Path

import numpy as np
import pytest

from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.runtime.decode import beam_search, greedy
from edgelr.runtime.decoder_graph import GraphDecoder
from edgelr.runtime.generation import Generation
from edgelr.runtime.masked_caches import MaskedCaches, room_for

NAMES = (["past_key_0", "past_value_0"], ["present_key_0", "present_value_0"])
IDS = np.array([[5, 6, 7, 8, 0], [9, 10, 0, 3, 3]])
SOURCE = {"input_ids": IDS, "attention_mask": (IDS != 3).astype(np.int64)}


@pytest.mark.parametrize(("tokens", "room"), [(0, 32), (1, 32), (32, 32), (33, 64), (65, 128), (128, 128)])
def test_there_are_few_lengths(tokens: int, room: int) -> None:
    assert room_for(tokens) == room


def test_a_step_is_written_behind_the_others() -> None:
    caches = MaskedCaches(*NAMES, [[2, 8], [2, 8]])
    caches.start(3)
    for token in (1.0, 2.0):
        for given in caches._given:
            given[:] = token * np.arange(1, 4)[:, None, None, None]
        caches.keep(None)  # type: ignore[arg-type]
    feeds = caches.feeds()
    assert feeds["past_key_0"].shape == (3, 2, 32, 8)
    assert feeds["past_key_0"][2, 1, :3, 0].tolist() == [3, 6, 0]
    assert (feeds["past_length"].tolist(), feeds["past_mask"].sum(axis=1).tolist()) == ([2], [2, 2, 2])
    for rows in ([2, 1, 1], [0, 2]):
        before = caches.feeds()["past_value_0"][rows]
        caches.reorder(np.array(rows))
        np.testing.assert_array_equal(caches.feeds()["past_value_0"], before)
        assert caches.feeds()["past_mask"].sum(axis=1).tolist() == [2] * len(rows)


def open_graphs(folder: Path, cpu: Device) -> GraphDecoder:
    found = GraphDecoder(*(open_session(folder / f"{role}.onnx", cpu) for role in ("encoder", "decoder")))
    found.read(SOURCE)
    return found


def test_every_token_is_that_of_the_growing_cache(
    translation_files: Path, masked_files: Path, cpu: Device
) -> None:
    """Beyond the first 32 tokens as well, where the buffers become longer."""
    endless = Generation(
        decoder_start_token_id=4, pad_token_id=3, eos_token_id=(), max_length=40, num_beams=1
    )
    growing, masked = (open_graphs(folder, cpu) for folder in (translation_files, masked_files))
    expected = greedy(growing, 2, endless)
    assert [len(row) for row in expected] == [39, 39]
    assert greedy(masked, 2, endless) == expected
    assert beam_search(masked, 2, endless, 3) == beam_search(growing, 2, endless, 3)
