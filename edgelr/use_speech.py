"""What ``edgelr run`` does with a speech package: sounds in, a line of text for each of them out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import UsageError
from edgelr.terminal import leave_broken_pipe, say_line, say_over

if TYPE_CHECKING:
    from edgelr.artifacts import Package
    from edgelr.device.schema import Device
    from edgelr.progress import Progress
    from edgelr.runtime.transcribe import AnyTranscriber, Segment

STANDARD_INPUT = "-"
_SHOWN = 3  # last windows that what is said now is shown with


def transcribe_files(
    package: Package,
    inputs: Sequence[str],
    device: Device,
    *,
    beam: int | None = None,
    max_tokens: int | None = None,
    segments: bool = False,
) -> dict[str, Any]:
    """Transcribe every sound, and print its text as soon as it is there.

    A reader that goes away (``| head``) ends it quietly. What a model with CTC hears on standard input is
    shown on a terminal while it is said.

    Args:
        package: As opened by ``open_package``.
        inputs: Sound files of any kind, rate and number of channels; ``-`` stands for sound on standard
            input, see ``stream_blocks``.
        device: The profile to run as.
        beam: 1 is greedy; the package's own when None.
        max_tokens: Most tokens of a window's transcript; the package's own when None.
        segments: Print a line for each part, with its times, in place of one for each sound: the parts that
            the model tells, or else the windows that it heard.

    Returns:
        ``{"transcripts": [{"input", "output", "seconds", "segments": [{"start_s", "end_s", "text"}]}]}``, in
        the order of the inputs.

    Raises:
        UsageError: There is no input, or standard input is named twice.
        DataError: A file is missing, damaged, or no sound.
        MissingRequirementError: What reads sounds is not installed.
        DamagedArtifactError: A file of the package is unusable.
    """
    from edgelr.progress import Progress
    from edgelr.runtime.transcribe import open_transcriber

    if not inputs:
        raise UsageError("there is no input", "give sound files, such as command.wav, or - for a stream")
    if inputs.count(STANDARD_INPUT) > 1:
        raise UsageError("standard input is named twice", "it can be read once: give - once")
    transcriber = open_transcriber(package, device)
    rows: list[dict[str, Any]] = []
    progress = Progress()
    try:
        with _counted(progress, len(inputs)) as advance:
            for name in inputs:
                found = []
                for segment in _segments(transcriber, name, progress, beam, max_tokens, times=segments):
                    found.append(segment)
                    for part in _parts(segment) if segments else ():
                        say_line(_line(part))
                rows.append(_row(name, found))
                if not segments:
                    say_line(rows[-1]["output"])
                advance()
    except BrokenPipeError:
        leave_broken_pipe()
    return {"transcripts": rows}


@contextmanager
def _counted(progress: Progress, count: int) -> Iterator[Callable[..., None]]:
    """A bar over many sounds; one needs none."""
    if count == 1:
        yield lambda: None
        return
    with progress.bar("transcribing", count) as advance:
        yield advance


def _segments(
    transcriber: AnyTranscriber,
    name: str,
    progress: Progress,
    beams: int | None,
    max_tokens: int | None,
    *,
    times: bool,
) -> Iterator[Segment]:
    """Final segments of a sound, as they come."""
    from edgelr.runtime.audio import audio_blocks, seconds_of
    from edgelr.runtime.transcribe import SAMPLE_RATE, transcribe

    if name == STANDARD_INPUT:
        yield from _live_segments(transcriber, beams, max_tokens, times=times)
        return
    path = Path(name)
    seconds = seconds_of(path)
    found = transcribe(transcriber, audio_blocks(path), beams=beams, max_tokens=max_tokens, times=times)
    if seconds * SAMPLE_RATE <= transcriber.window:
        yield from found
        return
    with progress.bar(path.name, round(seconds)) as advance:
        done = 0
        for segment in found:
            advance(round(segment.end_s) - done)
            done = round(segment.end_s)
            yield segment


def _live_segments(
    transcriber: AnyTranscriber, beams: int | None, max_tokens: int | None, *, times: bool
) -> Iterator[Segment]:
    from edgelr.progress import is_plain
    from edgelr.runtime.audio_stream import stream_blocks
    from edgelr.runtime.stream import stream
    from edgelr.runtime.transcribe import CtcTranscriber, text_of, transcribe

    blocks = stream_blocks(sys.stdin.buffer, "standard input")
    if is_plain(os.environ) or not isinstance(transcriber, CtcTranscriber):
        yield from transcribe(transcriber, blocks, beams=beams, max_tokens=max_tokens, times=times)
        return
    last: list[Segment] = []
    for segment in stream(transcriber, blocks, beams=beams, max_tokens=max_tokens):
        say_over(text_of([*last, segment]))
        if segment.final:
            last = [*last, segment][-_SHOWN:]
            say_over("")
            yield segment


def _row(name: str, segments: Sequence[Segment]) -> dict[str, Any]:
    from edgelr.runtime.transcribe import text_of

    return {
        "input": name,
        "output": text_of(segments),
        "seconds": segments[-1].end_s if segments else 0.0,
        "segments": [part for segment in segments for part in _parts(segment)],
    }


def _parts(segment: Segment) -> list[dict[str, Any]]:
    """What is told of a window: its phrases, or else itself."""
    return [
        {"start_s": each.start_s, "end_s": each.end_s, "text": each.text}
        for each in segment.phrases or (segment,)
    ]


def _line(part: dict[str, Any]) -> str:
    return f"{part['start_s']:8.2f} {part['end_s']:8.2f}  {part['text']}"
