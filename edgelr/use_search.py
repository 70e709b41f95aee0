"""What ``edgelr run`` does with a package that embeds sentences: the passages that match a text best."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgelr.terminal import say
from edgelr.text_inputs import read_texts

if TYPE_CHECKING:
    from edgelr.artifacts import Package
    from edgelr.device.schema import Device

PASSAGE_WIDTH = 200


def search(
    package: Package, inputs: Sequence[str], device: Device, *, top: int = 3, vectors: bool = False
) -> dict[str, Any]:
    """Embed every input, and print its vector or the passages of the package that match it best.

    Args:
        package: As opened by ``open_package``.
        inputs: Texts; ``-`` stands for the lines of standard input.
        device: The profile to run as.
        top: How many passages.
        vectors: Print vectors in place of passages.

    Returns:
        ``{"vectors": [{"input", "vector"}]}`` or ``{"answers": [{"input", "matches": [{"id", "score",
        "passage"}]}]}``, in the order of the inputs.

    Raises:
        UsageError: There is no input.
        DataError: Standard input is empty.
        DamagedArtifactError: A file of the package is unusable.
    """
    from edgelr.runtime.text import embed, nearest, open_text_package

    texts = read_texts(inputs)
    session, tokenizer = open_text_package(package, device)
    found = embed(session, tokenizer, texts)
    if vectors:
        rows = [[float(f"{number:.7g}") for number in vector] for vector in found.tolist()]
        say("\n".join(json.dumps(row) for row in rows))
        pairs = zip(texts, rows, strict=True)
        return {"vectors": [{"input": text, "vector": row} for text, row in pairs]}
    answers = []
    for text, vector in zip(texts, found, strict=True):
        matches = [asdict(match) for match in nearest(package, vector, top)]
        answers.append({"input": text, "matches": matches})
        _print_matches(text if len(texts) > 1 else None, matches)
    return {"answers": answers}


def _print_matches(title: str | None, matches: Sequence[Mapping[str, Any]]) -> None:
    if title is not None:
        say(f"{title}\n")
    for match in matches:
        passage = textwrap.shorten(match["passage"], PASSAGE_WIDTH, placeholder=" …")
        say(f"{match['score']:.3f}  {match['id']}\n{textwrap.indent(textwrap.fill(passage, 100), ' ' * 7)}\n")
