"""Buffers under a mask by themselves; a decoder with them is in test_decoder_graph.py, too."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.runtime.decode import beam_search, greedy
from edgelr.runtime.decoder_graph import GraphDecoder
from edgelr.runtime.generation import Generation
from edgelr.runtime.masked_caches import MaskedCaches, room_for
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.shapes import SHAPES

NAMES = (["past_key_0", "past_value_0"], ["present_key_0", "present_value_0"])
IDS = np.array([[5, 6, 7, 8, 0], [9, 10, 0, 3, 3]])
ENDLESS = Generation(decoder_start_token_id=4, pad_token_id=3, eos_token_id=(), max_length=40, num_beams=1)
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


def opened(folder: Path, cpu: Device) -> GraphDecoder:
    found = GraphDecoder(*(open_session(folder / f"{role}.onnx", cpu) for role in ("encoder", "decoder")))
    found.read(SOURCE)
    return found


def test_every_token_is_that_of_the_growing_cache(
    translation_files: Path, masked_files: Path, cpu: Device
) -> None:
    """Beyond the first 32 tokens as well, where the buffers become longer."""
    growing, masked = (opened(folder, cpu) for folder in (translation_files, masked_files))
    expected = greedy(growing, 2, ENDLESS)
    assert [len(row) for row in expected] == [39, 39]
    assert greedy(masked, 2, ENDLESS) == expected
    assert beam_search(masked, 2, ENDLESS, 3) == beam_search(growing, 2, ENDLESS, 3)


def test_at_fixed_sizes_too_whatever_fits_into_them(
    masked_files: Path, reseal_translation: Callable[..., Package], cpu: Device
) -> None:
    """As on an NPU: a source is padded to 8 or to 48 tokens, the cache to 32 or to 64."""
    package = reseal_translation(masked_files)
    package = replace(package, settings={**package.settings, SHAPES: "8"})
    fixed = replace(cpu, shapes="fixed")
    any_length, some = (
        GraphDecoder(*open_graphs(package, device, ("encoder", "decoder")).values())
        for device in (cpu, fixed)
    )
    for length in (1, 8, 9, 30):
        ids = np.random.default_rng(length).integers(4, 60, (2, length))
        for decoder in (any_length, some):
            decoder.read({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert greedy(some, 2, ENDLESS) == greedy(any_length, 2, ENDLESS)
