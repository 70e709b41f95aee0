"""What ``edgelr run`` does with a speech package: sound files in, a line of text for each of them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import UsageError
from edgelr.terminal import leave_broken_pipe, say_line

if TYPE_CHECKING:
    from edgelr.artifacts import Package
    from edgelr.device.schema import Device
    from edgelr.progress import Progress
    from edgelr.runtime.transcribe import AnyTranscriber, Segment


def transcribe_files(
    package: Package,
    inputs: Sequence[str],
    device: Device,
    *,
    beam: int | None = None,
    max_tokens: int | None = None,
    segments: bool = False,
) -> dict[str, Any]:
    """Transcribe every file, and print its text as soon as it is there.

    A reader that goes away (``| head``) ends it quietly.

    Args:
        package: As opened by ``open_package``.
        inputs: Sound files of any kind, rate and number of channels.
        device: The profile to run as.
        beam: 1 is greedy; the package's own when None.
        max_tokens: Most tokens of a window's transcript; the package's own when None.
        segments: Print a line for each window, with its times, in place of one for each file.

    Returns:
        ``{"transcripts": [{"input", "output", "seconds", "segments": [{"start_s", "end_s", "text"}]}]}``, in
        the order of the inputs.

    Raises:
        UsageError: There is no input.
        DataError: A file is missing, damaged, or no sound.
        MissingRequirementError: What reads sounds is not installed.
        DamagedArtifactError: A file of the package is unusable.
    """
    from edgelr.progress import Progress
    from edgelr.runtime.transcribe import open_transcriber

    if not inputs:
        raise UsageError("there is no input", "give sound files, such as command.wav")
    transcriber = open_transcriber(package, device)
    rows: list[dict[str, Any]] = []
    try:
        for path in inputs:
            found = list(_segments(transcriber, Path(path), beam, max_tokens, Progress()))
            rows.append(_row(path, found))
            for line in map(_line, found) if segments else [rows[-1]["output"]]:
                say_line(line)
    except BrokenPipeError:
        leave_broken_pipe()
    return {"transcripts": rows}


def _segments(
    transcriber: AnyTranscriber, path: Path, beams: int | None, max_tokens: int | None, progress: Progress
) -> Iterator[Segment]:
    from edgelr.runtime.audio import audio_blocks, seconds_of
    from edgelr.runtime.transcribe import SAMPLE_RATE, transcribe

    seconds = seconds_of(path)
    found = transcribe(transcriber, audio_blocks(path), beams=beams, max_tokens=max_tokens)
    if seconds * SAMPLE_RATE <= transcriber.window:
        yield from found
        return
    with progress.bar(path.name, round(seconds)) as advance:
        done = 0
        for segment in found:
            advance(round(segment.end_s) - done)
            done = round(segment.end_s)
            yield segment


def _row(path: str, segments: Sequence[Segment]) -> dict[str, Any]:
    from edgelr.runtime.transcribe import text_of

    parts = [
        {name: value for name, value in asdict(each).items() if name != "overlap_s"} for each in segments
    ]
    return {
        "input": path,
        "output": text_of(segments),
        "seconds": segments[-1].end_s if segments else 0.0,
        "segments": parts,
    }


def _line(segment: Segment) -> str:
    return f"{segment.start_s:8.2f} {segment.end_s:8.2f}  {segment.text}"
