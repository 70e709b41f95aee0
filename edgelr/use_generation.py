"""What ``edgelr run`` does with a causal language model: texts in, how they go on out, token by token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgelr.terminal import leave_broken_pipe, say, say_part
from edgelr.text_inputs import read_texts

if TYPE_CHECKING:
    from edgelr.artifacts import Package
    from edgelr.device.schema import Device
    from edgelr.runtime.continue_text import Writer


def continue_inputs(
    package: Package, inputs: Sequence[str], device: Device, *, max_tokens: int | None = None
) -> dict[str, Any]:
    """Go on with every input, and print each token's text as soon as it is there.

    A reader that goes away (``| head``) ends it quietly.

    Args:
        package: As opened by ``open_package``.
        inputs: Beginnings of texts; ``-`` stands for the lines of standard input.
        device: The profile to run as.
        max_tokens: Most tokens to write; as many as the package holds when None.

    Returns:
        ``{"continuations": [{"input", "output", "tokens", "tokens_per_s"}]}``, in the order of the inputs.

    Raises:
        UsageError: There is no input.
        DataError: Standard input is empty, or an input is too long.
        DamagedArtifactError: A file of the package is unusable.
    """
    from edgelr.runtime.continue_text import open_writer

    texts = read_texts(inputs)
    writer = open_writer(package, device)
    rows: list[dict[str, Any]] = []
    try:
        for text in texts:
            if len(texts) > 1:
                say(f"{text} …")
            rows.append(_continued(writer, text, max_tokens))
            say_part("\n\n" if len(texts) > 1 else "\n")
    except BrokenPipeError:
        leave_broken_pipe()
    return {"continuations": rows}


def _continued(writer: Writer, text: str, max_tokens: int | None) -> dict[str, Any]:
    from edgelr.runtime.continue_text import continue_tokens, pieces_of_text, prompt_of

    prompt, written, tokens = prompt_of(writer, text), list[str](), list[int]()
    begin = time.perf_counter()

    def counted() -> Any:  # noqa: ANN401 - an iterator of tokens
        for token in continue_tokens(writer, prompt, max_tokens):
            tokens.append(token)
            yield token

    for piece in pieces_of_text(writer.codec, prompt, counted()):
        written.append(piece)
        say_part(piece)
    seconds = time.perf_counter() - begin
    return {
        "input": text,
        "output": "".join(written),
        "tokens": len(tokens),
        "tokens_per_s": round(len(tokens) / seconds, 2),
    }
