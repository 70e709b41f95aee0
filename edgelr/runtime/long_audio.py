"""Audio longer than a model's window: cut at silences, else with an overlap; and its texts joined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.float32]

_OVERLAP_S = 1.0  # a few words: enough to find them again
_LARGEST_OVERLAP = 4  # one part in so many of a window
_SEARCHED = 3  # silences are looked for in the last of so many parts of a window
# Stops within fluent speech are silent too: some have 0.1 s at -20 dB, hardly one has 0.2 s.
_SILENCE_S = 0.2
_STEP_S = 0.01
_QUIET_POWER = 1e-2  # of a silence, to the mean of its window: -20 dB
_SILENT_POWER = 1e-6  # of what cannot be more silent: -60 dB
_MOST_SHARED_WORDS = 8  # nobody says more in the overlap, and words may be said twice
_AROUND_A_WORD = re.compile(r"^[\W_]+|[\W_]+$")


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """A part of a longer sound.

    Attributes:
        start_s: Where it begins in the whole.
        end_s: Where it ends.
        pcm: ``[samples]``, at most a model's window.
        overlap_s: How much of its beginning is also the end of the window before; 0 after a silence.
        final: Whether it is whole; another one that begins with it follows, if not.
    """

    start_s: float
    end_s: float
    pcm: Pcm
    overlap_s: float
    final: bool = True


def windows_of(blocks: Iterable[Pcm], window: int, rate: int, every: int | None = None) -> Iterator[Window]:
    """Cut a sound into windows, as it comes; memory is bounded by a block and about two windows.

    What is not longer than a window is one. Else each window ends in the middle of the quietest 0.2 s of its
    last third, of about equal ones the last. Where these are not clearly quieter than the window as a whole
    (by 20 dB), it is full, and the next one begins a second earlier, at most a quarter of a window: a word
    that is cut in one is whole in the other.

    Args:
        blocks: PCM ``[samples]`` of any lengths, in order.
        window: Samples of the longest window, at least 1.
        rate: Samples a second.
        every: Also give what there is of a window, not ``final``, after as many more samples.

    Yields:
        Windows in order; the final ones without their overlaps are the sound. None where there are no
        samples.

    Raises:
        ValueError: ``window``, ``rate`` or ``every`` is not positive.
    """
    if window < 1 or rate < 1 or (every is not None and every < 1):
        raise ValueError(f"a window of {window} samples at {rate} a second, shown every {every}")
    overlap = min(round(_OVERLAP_S * rate), window // _LARGEST_OVERLAP)
    # Joined only when a window is full: blocks may be many and small.
    pieces: list[Pcm] = []
    held = start = shared = shown = 0
    for block in blocks:
        pieces.append(block)
        held += len(block)
        if held <= window:
            if every is not None and start + held - shown >= every:
                shown = start + held
                yield _window(np.concatenate(pieces), start, shared, rate, final=False)
            continue
        pcm = np.concatenate(pieces)
        while len(pcm) > window:
            silence = _middle_of_silence(pcm[:window], rate)
            end = silence or window
            yield _window(pcm[:end], start, shared, rate)
            shared = 0 if silence else overlap
            start += end - shared
            pcm = pcm[end - shared :]
        pieces, held, shown = [pcm], len(pcm), max(shown, start)
    if held:
        yield _window(np.concatenate(pieces), start, shared, rate)


def padded_window(pcm: Pcm, window: int) -> NDArray[np.float32]:
    """A sound filled with silence to a whole window, ``[1, window]``.

    Args:
        pcm: ``[samples]``, at most a window.
        window: Samples of a window.
    """
    padded = np.zeros((1, window), np.float32)
    padded[0, : len(pcm)] = pcm
    return padded


def join_texts(first: str, second: str, overlapped: bool) -> str:
    """Join the transcripts of a window and the next; words that both have at the seam are kept once.

    Of windows that overlap, the longest end of the first that is a beginning of the second counts, word by
    word, whatever the case and the punctuation. The word at each of the two cuts may be wrong, because it was
    cut: the last one of the first text gives way to the second's, the first one of the second to the first's.

    Args:
        first: Of a window, or what was joined so far.
        second: Of the next window.
        overlapped: Whether the two windows overlap.

    Returns:
        One text, with single spaces between its words.
    """
    before, after = first.split(), second.split()
    shared = _shared_words(before, after) if overlapped else 0
    # The last shared word is the second's: in the first it may be cut, or have a full stop that is not there.
    kept = before[: len(before) - 1] if shared else before
    return " ".join(kept + after[max(shared - 1, 0) :])


def _window(pcm: Pcm, start: int, shared: int, rate: int, *, final: bool = True) -> Window:
    end = start + len(pcm)
    return Window(start_s=start / rate, end_s=end / rate, pcm=pcm, overlap_s=shared / rate, final=final)


def _middle_of_silence(pcm: Pcm, rate: int) -> int | None:
    """Where to cut, from 1 to all samples; None where the quietest part is not quiet."""
    length = max(1, min(round(_SILENCE_S * rate), len(pcm) // _SEARCHED))
    power = np.square(pcm.astype(np.float64) - pcm.mean(dtype=np.float64))
    searched = power[-max(length, len(pcm) // _SEARCHED) :]
    sums = np.concatenate([[0.0], np.cumsum(searched)])
    starts = np.arange(0, len(searched) - length + 1, max(1, round(_STEP_S * rate)))
    means = (sums[starts + length] - sums[starts]) / length
    quietest = means.min()
    if quietest > _QUIET_POWER * power.mean():
        return None
    # Of about equal ones the last: fewer windows.
    equal = means <= max(2 * quietest, _SILENT_POWER * power.mean())
    return len(pcm) - len(searched) + int(starts[equal][-1]) + (length + 1) // 2


def _shared_words(before: list[str], after: list[str]) -> int:
    """How many words at the end of one text begin the other: as many as make the most equal ones."""
    best, shared = 0, 0
    for count in range(1, min(len(before), len(after), _MOST_SHARED_WORDS) + 1):
        pairs = zip(before[-count:], after[:count], strict=True)
        equal = [_bare(one) == _bare(other) for one, other in pairs]
        if all(equal[1:-1]) and sum(equal) > best:
            best, shared = sum(equal), count
    return shared


def _bare(word: str) -> str:
    """A word without case and punctuation around it; what has nothing else stays."""
    return _AROUND_A_WORD.sub("", word).casefold() or word
