"""What a package is timed with, one input of its own examples; and a graph, random numbers and ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Graph, Package, Tensor
from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.runtime.caches import COUNTERS, TOTAL
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.text import batch_tokens, package_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


# ONNX's words for types, and NumPy's.
_FLOATS = {"float": "float32", "float16": "float16", "double": "float64"}
_INTEGERS = {"int64": "int64", "int32": "int32", "bool": "bool"}


def package_inputs(package: Package, length: int) -> dict[str, Any]:
    """Inputs of one text or sound, as nested lists.

    Args:
        package: Any package.
        length: In tokens; of a sound in seconds.

    Raises:
        UnsupportedModelError: The package's task is unknown.
    """
    match package.task:
        case "sentence-embedding":
            from edgelr.examples import Example

            texts = [example.passage for example in folder_examples(package.folder, Example)]
            return tokens_of_length(package_tokenizer(package), texts, length)
        case "translation":
            return _source_of_length(package, length)
        case "automatic-speech-recognition":
            return {"audio_s": length}
        case _:
            raise UnsupportedModelError(
                f"{package.folder}: the task {package.task!r} is unknown", "update edgelr"
            )


def _source_of_length(package: Package, tokens: int) -> dict[str, Any]:
    """A source of ``tokens`` tokens, to be translated into as many."""
    from edgelr.examples import Translation
    from edgelr.runtime.tokens import open_codec

    codec = open_codec(package.folder, package.settings)
    joined: list[int] = []
    end: list[int] = []
    for example in itertools.cycle(folder_examples(package.folder, Translation)):
        *words, last = codec.encode(example.source)
        joined, end = [*joined, *words], [last]
        if len(joined) >= tokens:
            break
    return {"input_ids": [[*joined[: tokens - 1], *end]], "new_tokens": tokens}


def tokens_of_length(tokenizer: Tokenizer, texts: Sequence[str], tokens: int) -> dict[str, Any]:
    """One input of exactly ``tokens`` tokens: ``texts`` one after the other, repeated where they end.

    Args:
        tokenizer: As loaded by ``runtime/text.py``.
        texts: At least one.
        tokens: Length.

    Returns:
        ``input_ids`` and ``attention_mask``, both nested lists ``[1, tokens]``.
    """
    joined: list[int] = []
    for text in texts:
        joined += batch_tokens(tokenizer, [text])["input_ids"][0].tolist()
        if len(joined) >= tokens:
            break
    ids = [joined[place % len(joined)] for place in range(tokens)]
    return {"input_ids": [ids], "attention_mask": [[1] * tokens]}


def made_up_inputs(path: Path, graph: Graph, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Inputs for any graph, as ``worker.py`` takes them: random floats, and ones; caches are full.

    Args:
        path: Of the graph, for errors.
        graph: What goes in.
        sizes: Name of each dynamic axis -> its size.

    Raises:
        UsageError: An axis has no size, or a size no axis.
        UnsupportedModelError: An input is of a type that cannot be made up.
    """
    dynamic = {axis for entry in graph.inputs for axis in entry.shape if isinstance(axis, str)}
    if unknown := sorted(set(sizes) - dynamic):
        raise UsageError(
            f"--shape {unknown[0]}: no input has an axis of that name",
            f"known are {', '.join(sorted(dynamic)) or 'none: every size is fixed'}",
        )
    if missing := sorted(dynamic - set(sizes)):
        raise UsageError(f"{path}: the size of axis '{missing[0]}' is open", f"add --shape {missing[0]}=128")
    return {entry.name: _made_up(entry, sizes) for entry in graph.inputs}


def _made_up(entry: Tensor, sizes: Mapping[str, int]) -> dict[str, Any]:
    shape = [sizes[axis] if isinstance(axis, str) else axis for axis in entry.shape]
    if entry.dtype in _FLOATS:
        return {"normal": shape, "dtype": _FLOATS[entry.dtype]}
    if entry.dtype in _INTEGERS:
        ones: dict[str, Any] = {"ones": shape, "dtype": _INTEGERS[entry.dtype]}
        if entry.name in COUNTERS and "past" in sizes:
            ones["times"] = sizes["past"] + (entry.name == TOTAL)
        return ones
    raise UnsupportedModelError(
        f"input '{entry.name}' is of type {entry.dtype}, which cannot be made up", "give a package"
    )


def axis_sizes(texts: Sequence[str]) -> dict[str, int]:
    """Sizes of axes as a command line gives them.

    Args:
        texts: Each ``axis=size``.

    Raises:
        UsageError: One is not of that form.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value.isdecimal() or int(value) < 1:
            raise UsageError(f"--shape: {text!r} is no AXIS=SIZE", "such as --shape tokens=128")
        found[name] = int(value)
    return found
