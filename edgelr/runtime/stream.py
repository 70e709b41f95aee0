"""Texts while somebody still speaks: what there is of a window is heard again and again until it is whole.

What was said so far of the window is the context, whatever the size of the blocks that a microphone gives; no
word counts before its window is whole. So the final segments, and the text that they make, are exactly those
of ``transcribe``. It suits models with CTC, which read a window in one pass; a model that writes token by
token makes words up where a window stops in the middle of one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from edgelr.runtime.long_audio import Pcm, windows_of
from edgelr.runtime.transcribe import SAMPLE_RATE, AnyTranscriber, Segment, hear

_REST = 2.0  # of new sound to the time that it took to hear the last: at most half of a core is busy with it


def stream(
    transcriber: AnyTranscriber,
    blocks: Iterable[Pcm],
    *,
    every_s: float = 0.5,
    beams: int | None = None,
    max_tokens: int | None = None,
) -> Iterator[Segment]:
    """Transcribe a sound as it comes, with texts of windows that are not whole yet.

    Memory is bounded by a block and about two windows. Where the device is too slow for ``every_s``, such
    texts come less often.

    Args:
        transcriber: The package.
        blocks: PCM ``[samples]`` of 16 kHz, in order, of any lengths; none is waited for but the next.
        every_s: Seconds of new sound after which an unfinished window is heard again.
        beams: 1 is greedy; the package's own when None.
        max_tokens: Most tokens a window, if that is fewer than the package allows.

    Yields:
        Segments; one that is not ``final`` takes the place of the one before, if that is not either. The text
        so far is ``text_of`` the final ones and the last one.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on a graph.
    """
    due_s = every_s
    for window in windows_of(blocks, transcriber.window, SAMPLE_RATE, round(every_s * SAMPLE_RATE)):
        if not window.final and window.end_s < due_s:
            continue
        started = time.monotonic()
        yield hear(transcriber, window, beams=beams, max_tokens=max_tokens)
        due_s = window.end_s + max(every_s, _REST * (time.monotonic() - started))
