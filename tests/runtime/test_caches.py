"""Caches by themselves; decoders with both kinds are in test_decoder_graph.py."""

from typing import Any

import numpy as np
import pytest

from edgelr.runtime.caches import BufferCaches, GrowingCaches, counters_of

NAMES = (["past_key_0", "past_value_0"], ["present_key_0", "present_value_0"])
SIZES = [[2, 8], [2, 8]]
ROWS = np.array([1, 1, 0])


def test_counters_say_how_many_tokens_there_are() -> None:
    counters = counters_of(3, 5)
    assert {name: (array.tolist(), str(array.dtype)) for name, array in counters.items()} == {
        "past_length": ([5], "int64"),
        "seqlens_k": ([5, 5, 5], "int32"),
        "total_sequence_length": ([6], "int32"),
    }


@pytest.mark.parametrize("kind", [GrowingCaches, BufferCaches])
def test_rows_are_empty_at_first(kind: Any) -> None:
    caches = kind(*NAMES, SIZES)
    caches.start(4)
    assert [value.shape()[:2] for value in caches._values] == [[4, 2], [4, 2]]
    caches.start(1)
    assert [value.shape()[:2] for value in caches._values] == [[1, 2], [1, 2]]


def test_buffers_for_as_many_rows_are_used_again() -> None:
    caches = filled()
    buffers = caches._buffers
    caches.start(3)
    assert caches._buffers is buffers
    assert caches._counters["seqlens_k"].tolist() == [0, 0, 0]
    assert caches._counters["total_sequence_length"].tolist() == [1]


def filled() -> BufferCaches:
    """Three rows of two tokens."""
    caches = BufferCaches(*NAMES, SIZES)
    caches.start(3)
    for _ in range(2):
        caches.keep(None)  # type: ignore[arg-type]
    for buffer in caches._buffers:
        buffer[:] = np.random.default_rng(0).standard_normal(buffer.shape)
    return caches


def test_as_many_rows_change_places_where_they_are() -> None:
    caches = filled()
    buffers, before = caches._buffers, [buffer.copy() for buffer in caches._buffers]
    caches.reorder(ROWS)
    assert caches._buffers is buffers
    for buffer, old in zip(buffers, before, strict=True):
        np.testing.assert_array_equal(buffer[:, :, :2], old[ROWS, :, :2])


def test_more_rows_or_fewer_take_other_buffers_and_their_tokens_along() -> None:
    caches = filled()
    before = [buffer.copy() for buffer in caches._buffers]
    caches.reorder(np.array([2, 0]))
    for buffer, old in zip(caches._buffers, before, strict=True):
        np.testing.assert_array_equal(buffer, old[[2, 0]])
    assert caches._counters["seqlens_k"].tolist() == [2, 2]
    assert caches._counters["total_sequence_length"].tolist() == [3]


def test_counters_of_a_prompt_say_where_its_last_token_is() -> None:
    counters = counters_of(1, 5, 4)
    assert [counters[name].tolist() for name in ("past_length", "seqlens_k", "total_sequence_length")] == [
        [5],
        [8],
        [9],
    ]


class Binding:
    """What is bound, by name."""

    def __init__(self) -> None:
        self.bound: dict[str, Any] = {}

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.bound[name] = value.numpy()

    bind_ortvalue_output = bind_ortvalue_input


def test_a_prompt_has_room_and_single_tokens_behind_it_are_counted_as_such() -> None:
    caches, binding = BufferCaches(*NAMES, SIZES), Binding()
    caches.start(1)
    caches.bind(binding, 100)  # type: ignore[arg-type]
    assert binding.bound["past_key_0"].shape[2] >= 100
    assert caches._counters["seqlens_k"].tolist() == [99]
    caches.keep(binding, 100)  # type: ignore[arg-type]
    caches.bind(binding)  # type: ignore[arg-type]
    assert [caches._counters[name].tolist() for name in ("past_length", "total_sequence_length")] == [
        [100],
        [101],
    ]
