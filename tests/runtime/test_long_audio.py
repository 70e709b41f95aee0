import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelr.runtime.long_audio import Window, join_texts, windows_of

RATE = 1000
WINDOW = 10 * RATE


def noise(seconds: float, loudness: float = 0.1, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (loudness * draw.standard_normal(round(seconds * RATE))).astype(np.float32)


def in_blocks(pcm: np.ndarray, size: int) -> Iterator[np.ndarray]:
    yield from (pcm[at : at + size] for at in range(0, len(pcm), size))


def cut(pcm: np.ndarray, window: int = WINDOW, block: int = 700, rate: int = RATE) -> list[Window]:
    return list(windows_of(in_blocks(pcm, block), window, rate))


def shared(window: Window, rate: int = RATE) -> int:
    return round(window.overlap_s * rate)


def whole(windows: list[Window], rate: int = RATE) -> np.ndarray:
    return np.concatenate([window.pcm[shared(window, rate) :] for window in windows])


# --- where it is cut ----------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 50, WINDOW - 1, WINDOW])
def test_what_fits_is_one_window(samples):
    pcm = noise(samples / RATE)
    (window,) = cut(pcm)
    assert np.array_equal(window.pcm, pcm)
    assert (window.start_s, window.end_s, window.overlap_s) == (0, samples / RATE, 0)


def test_no_samples_are_no_windows():
    assert list(windows_of([], WINDOW, RATE)) == []
    assert list(windows_of([np.zeros(0, np.float32)] * 3, WINDOW, RATE)) == []


@pytest.mark.parametrize("start", [6.8, 7.5, 9.7])
def test_a_silence_in_the_last_third_is_where_it_is_cut(start):
    pcm = noise(16.0)
    pcm[round(start * RATE) : round((start + 0.3) * RATE)] *= 0.05
    first, second = cut(pcm)
    assert start + 0.1 <= first.end_s <= start + 0.2
    assert (second.start_s, second.overlap_s) == (first.end_s, 0)
    assert np.array_equal(np.concatenate([first.pcm, second.pcm]), pcm)


def test_the_quietest_of_several_silences_is_taken():
    pcm = noise(16.0)
    for start, loudness in ((7.0, 0.08), (8.0, 0.02), (9.0, 0.08)):
        pcm[round(start * RATE) : round((start + 0.3) * RATE)] *= loudness
    assert 8.1 <= cut(pcm)[0].end_s <= 8.2


def test_a_long_silence_is_cut_late():
    """Fewer windows."""
    pcm = np.concatenate([noise(5.0), np.zeros(6 * RATE, np.float32), noise(5.0)])
    assert 9.88 < cut(pcm)[0].end_s <= 9.9
    assert [round(window.end_s, 1) for window in cut(np.zeros(25 * RATE, np.float32))] == [9.9, 19.8, 25]


@pytest.mark.parametrize("start", [1.0, 5.0])
def test_an_earlier_silence_is_too_early(start):
    pcm = noise(16.0)
    pcm[round(start * RATE) : round((start + 0.5) * RATE)] = 0
    assert cut(pcm)[0].end_s == 10


@pytest.mark.parametrize("loudness", [1.0, 0.3])
def test_without_a_silence_windows_are_full_and_overlap_by_a_second(loudness):
    pcm = noise(30.0)
    pcm[8 * RATE : round(8.3 * RATE)] *= loudness
    windows = cut(pcm)
    assert [(each.start_s, each.end_s) for each in windows] == [(0, 10), (9, 19), (18, 28), (27, 30)]
    assert [each.overlap_s for each in windows] == [0, 1, 1, 1]
    assert np.array_equal(whole(windows), pcm)


def test_a_constant_in_every_sample_hides_no_silence():
    """As cheap microphones add it."""
    pcm = noise(16.0)
    pcm[8 * RATE : round(8.3 * RATE)] = 0
    assert cut(pcm + np.float32(0.3))[0].end_s == cut(pcm)[0].end_s
    assert 8.1 <= cut(pcm)[0].end_s <= 8.2


@pytest.mark.parametrize("block", [1, 99, 3000, 10_000, 10_001, 10**6])
def test_blocks_do_not_matter(block):
    pcm = noise(45.0)
    pcm[round(17.5 * RATE) : 18 * RATE] = 0
    found, other = cut(pcm, block=block), cut(pcm, block=700)
    assert [(each.start_s, each.end_s, each.overlap_s) for each in found] == [
        (each.start_s, each.end_s, each.overlap_s) for each in other
    ]
    assert all(np.array_equal(one.pcm, two.pcm) for one, two in zip(found, other, strict=True))


@pytest.mark.parametrize(("window", "rate"), [(0, RATE), (-1, RATE), (10, 0)])
def test_a_window_of_nothing_is_refused(window, rate):
    with pytest.raises(ValueError, match="a window of"):
        list(windows_of([noise(1.0)], window, rate))


# --- properties ---------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), max_size=30),
    window=st.integers(1, 50),
    rate=st.integers(1, 40),
    quiet=st.sets(st.integers(0, 60)),
    seed=st.integers(0, 9),
)
def test_every_sample_is_in_a_window(sizes, window, rate, quiet, seed):
    draw = np.random.default_rng(seed)
    tenths = [draw.standard_normal(size) * (0 if at in quiet else 1) for at, size in enumerate(sizes)]
    blocks = [block.astype(np.float32) for block in tenths]
    pcm = np.concatenate([*blocks, np.zeros(0, np.float32)])
    windows = list(windows_of(blocks, window, rate))
    assert all(0 < len(each.pcm) <= window for each in windows)
    assert np.array_equal(np.concatenate([whole(windows, rate)] if windows else [pcm]), pcm)
    for each in windows:
        start, end = round(each.start_s * rate), round(each.end_s * rate)
        assert np.array_equal(each.pcm, pcm[start:end])
        assert shared(each, rate) <= min(rate, window // 4)
    assert [each.overlap_s for each in windows[:1]] in ([], [0])
    assert (len(windows) == 0) == (len(pcm) == 0)
    assert (len(windows) <= 1) == (len(pcm) <= window)
    # None is within another: each adds something.
    assert all(shared(each, rate) < len(each.pcm) for each in windows)


@pytest.mark.parametrize("silent", [True, False])
def test_no_more_is_read_ahead_than_a_window_and_a_block(silent):
    read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 700
            yield np.zeros(700, np.float32) if silent else noise(0.7, seed=read)

    windows = windows_of(endless(), WINDOW, RATE)
    for _ in range(50):
        window = next(windows)
        assert read - window.start_s * RATE <= WINDOW + 700


def test_memory_is_bounded_whatever_the_length():
    """An hour of 16 kHz would be 230 MB; a window of ten seconds is 0.64."""
    block = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    tracemalloc.start()
    seconds = 0.0
    for window in windows_of((block.copy() for _ in range(600)), 160_000, 16_000):
        seconds = window.end_s
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds == 600
    assert peak < 8 * 640_000


def test_speech_is_cut_between_sentences():
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("soxr")
    from edgelr.load.speech_synthesis import SAMPLE_RATE, Voice, speak

    said = [
        speak(text, Voice(name="en-us", words_per_minute=160))
        for text in ("turn on the kitchen lights", "set a timer for ten minutes", "call the doctor on monday")
    ]
    gap = np.zeros(SAMPLE_RATE // 4, np.float32)
    parts = [part for number in range(24) for part in (said[number % 3], gap)]
    pcm = np.concatenate(parts)
    ends = np.cumsum([len(part) for part in parts])
    gaps = [(end - len(gap), end) for end in ends[1::2].tolist()]
    pcm += np.random.default_rng(0).standard_normal(len(pcm)).astype(np.float32) * np.float32(1e-3)
    windows = cut(pcm, 10 * SAMPLE_RATE, 4096, SAMPLE_RATE)
    assert len(windows) >= 5
    assert {window.overlap_s for window in windows} == {0}
    for window in windows[:-1]:
        end = round(window.end_s * SAMPLE_RATE)
        assert any(start - 2000 < end < stop + 2000 for start, stop in gaps), "speech fades in and out"


# --- windows that are not whole yet ---------------------------------------------------------------------


@pytest.mark.parametrize(("block", "every"), [(100, 500), (700, 500), (700, 1), (4000, 3000), (25_000, 500)])
def test_unfinished_windows_change_nothing_of_the_final_ones(block, every):
    pcm = noise(45.0)
    pcm[round(17.5 * RATE) : 18 * RATE] = 0
    shown = list(windows_of(in_blocks(pcm, block), WINDOW, RATE, every))
    final = [each for each in shown if each.final]
    for found, expected in zip(final, cut(pcm, block=block), strict=True):
        assert (found.start_s, found.end_s, found.overlap_s) == (
            expected.start_s,
            expected.end_s,
            expected.overlap_s,
        )
        assert np.array_equal(found.pcm, expected.pcm)
    for one, two in itertools.pairwise(shown):
        if not one.final:
            assert two.start_s == one.start_s, "it goes on"
            assert np.array_equal(two.pcm[: len(one.pcm)][: len(two.pcm)], one.pcm[: len(two.pcm)])
        if not two.final and not one.final:
            assert two.end_s - one.end_s >= every / RATE


def test_a_window_is_shown_about_as_often_as_asked():
    shown = list(windows_of(in_blocks(noise(9.0), 100), WINDOW, RATE, 500))
    assert [each.end_s for each in shown if not each.final] == [0.5 * number for number in range(1, 19)]
    (last,) = (each for each in shown if each.final)
    assert (last.start_s, last.end_s) == (0, 9)


# --- texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("turn on the", "the lights", "turn on the lights"),
        ("turn on the lights", "on the lights in the hall", "turn on the lights in the hall"),
        ("Turn on the.", "The lights, please.", "Turn on The lights, please."),
        ("a b c", "d e f", "a b c d e f"),
        ("a b", "a b", "a b"),
        ("", "a b", "a b"),
        ("a b", "", "a b"),
        ("", "", ""),
        ("  a   b ", " b\tc ", "a b c"),
        # The last word of the first is cut, the first of the second, or both.
        ("turn on the lie", "the lights in the hall", "turn on the lights in the hall"),
        ("turn on the lights", "n the lights in the hall", "turn on the lights in the hall"),
        ("turn on the lie", "n the lights in the hall", "turn on the lights in the hall"),
        ("turn on the lie", "the", "turn on the lie the"),
        # Two wrong words are too many.
        ("one two three four", "two five six four", "one two three four two five six four"),
        # Of several ways the one with the most words.
        ("no no no", "no no yes", "no no no yes"),
        ("go to to", "to to it", "go to to it"),
        ("one one one one one one one one one one", "one one two", "one " * 10 + "two"),
        ("a - b", "- b c", "a - b c"),
        ("STRASSE eins", "Straße eins zwei", "STRASSE eins zwei"),
    ],
)
def test_words_that_both_have_are_kept_once(first, second, joined):
    assert join_texts(first, second, overlapped=True) == joined


def test_after_a_silence_nothing_is_dropped():
    assert join_texts("it is nine", "nine o'clock", overlapped=False) == "it is nine nine o'clock"
    assert join_texts(" a ", "", overlapped=False) == "a"


def test_no_more_than_the_overlap_can_hold_is_dropped():
    first = " ".join(["one"] * 20)
    assert join_texts(first, first, overlapped=True).split() == ["one"] * 32


@given(
    words=st.lists(st.integers().map("w{}".format), min_size=2, unique=True),
    place=st.integers(0),
    count=st.integers(0, 8),
)
def test_a_text_that_was_cut_is_itself_again(words, place, count):
    place %= len(words)
    first, second = words[: place + count], words[place:]
    assert join_texts(" ".join(first), " ".join(second), overlapped=True) == " ".join(words)
