"""What a package is timed with: one input of a given length, made of its own examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import UnsupportedModelError
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.text import batch_tokens, package_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def package_inputs(package: Package, tokens: int) -> dict[str, Any]:
    """Graph inputs of one text of ``tokens`` tokens, as nested lists.

    Args:
        package: Any package.
        tokens: Length.

    Raises:
        UnsupportedModelError: The package's task is unknown.
    """
    match package.task:
        case "sentence-embedding":
            texts = [example.passage for example in folder_examples(package.folder)]
            return tokens_of_length(package_tokenizer(package), texts, tokens)
        case _:
            raise UnsupportedModelError(
                f"{package.folder}: the task {package.task!r} is unknown", "update edgelr"
            )


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
