"""What ``edgelr run`` does with a translation package: texts or lines in, a line for each of them out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import UsageError
from edgelr.terminal import leave_broken_pipe, say, say_line
from edgelr.text_inputs import NO_INPUT, STANDARD_INPUT

if TYPE_CHECKING:
    from edgelr.artifacts import Package
    from edgelr.device.schema import Device


def translate_inputs(
    package: Package,
    inputs: Sequence[str],
    device: Device,
    *,
    file: Path | None = None,
    beam: int | None = None,
    max_tokens: int | None = None,
) -> dict[str, Any]:
    """Translate every input, and print a line for each as soon as it is there.

    A reader that goes away (``| head``) ends it quietly: a filter has then done what was wanted.

    Args:
        package: As opened by ``open_package``.
        inputs: Texts; ``-`` stands for the lines of standard input.
        device: The profile to run as.
        file: Its lines come last.
        beam: 1 is greedy; the package's own when None.
        max_tokens: Most tokens of a translation; the package's own when None.

    Returns:
        ``{"translations": [{"input", "output"}]}``, in the order of the inputs.

    Raises:
        UsageError: There is no input.
        DamagedArtifactError: A file of the package is unusable.
    """
    from edgelr.runtime.translate import open_translator, translate

    if not inputs and file is None:
        raise UsageError("there is no input", f"{NO_INPUT}, or --file")
    translator = open_translator(package, device)
    texts, shown = tee(_texts(inputs, file))
    outputs = translate(translator, texts, beams=beam, max_tokens=max_tokens, note=_note)
    rows: list[dict[str, str]] = []
    try:
        for text, output in zip(shown, outputs, strict=True):
            rows.append({"input": text, "output": output})
            say_line(output)
    except BrokenPipeError:
        leave_broken_pipe()
    return {"translations": rows}


def _texts(inputs: Sequence[str], file: Path | None) -> Iterator[str]:
    for text in inputs:
        if text == STANDARD_INPUT:
            yield from _lines(sys.stdin.buffer, "standard input")
        else:
            yield text
    if file is not None:
        with file.open("rb") as lines:
            yield from _lines(lines, str(file))


def _lines(stream: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines as they come, without their ends; what is not UTF-8 is replaced, and that is said once."""
    replaced = False
    for raw in stream:
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            if not replaced:
                say(f"edgelr: {name} is not all UTF-8; what is not is replaced by \ufffd", err=True)
            replaced, text = True, line.decode("utf-8", "replace")
        yield text.removeprefix("\ufeff")


def _note(text: str) -> None:
    say(f"note: {text}", err=True)
