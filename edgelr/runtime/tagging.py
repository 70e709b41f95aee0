"""Texts in, a tag for each of their words out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.errors import UnsupportedModelError
from edgelr.runtime.answers import check_finite
from edgelr.runtime.classify import LOGITS
from edgelr.runtime.graph import run_graph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

BEYOND = "O"  # the tag of words that are cut off, and of those without a token


def first_tokens(encoding: Encoding, words: int) -> list[int | None]:
    """Where each word begins among the tokens; None for one that is cut off or has none.

    Args:
        encoding: Of the words.
        words: How many there are.
    """
    found: list[int | None] = [None] * words
    for at, word in enumerate(encoding.word_ids):
        if word is not None and found[word] is None:
            found[word] = at
    return found


def word_tokens(
    tokenizer: Tokenizer, words: Sequence[str]
) -> tuple[dict[str, NDArray[np.int64]], list[int | None]]:
    """The graph's inputs for one text, and where each word begins.

    Args:
        tokenizer: As loaded by ``text.py``.
        words: At least one.
    """
    import numpy as np

    encoding = tokenizer.encode(list(words), is_pretokenized=True)
    ids = np.array([encoding.ids], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}, first_tokens(encoding, len(words))


def word_scores(
    package: Package, session: InferenceSession, tokenizer: Tokenizer, words: Sequence[str]
) -> list[NDArray[np.float32] | None]:
    """Scores of every tag for each word, ``[tags]``; None for a word that is cut off or has no token.

    Args:
        package: What an error names.
        session: Its graph, open.
        tokenizer: Its own.
        words: Of one text, at least one.

    Raises:
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: The graph does not fit the task.
    """
    inputs, firsts = word_tokens(tokenizer, words)
    found = run_graph(session, inputs)
    if LOGITS not in found or found[LOGITS].ndim != 3:
        raise UnsupportedModelError(
            f"{package.folder}: the graph gives no {LOGITS} [batch, tokens, tags]", "build it again"
        )
    check_finite(found[LOGITS], package)
    return [None if at is None else found[LOGITS][0, at] for at in firsts]


def word_tags(scores: Sequence[NDArray[np.float32] | None], labels: Sequence[str]) -> list[str]:
    """The tag of each word.

    Args:
        scores: As of ``word_scores``.
        labels: Names of the tags.
    """
    return [BEYOND if each is None else labels[int(each.argmax())] for each in scores]
