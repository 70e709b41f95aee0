"""What ``edgelr run`` does with a tagger: texts in, the words that have a tag out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgelr.terminal import say
from edgelr.text_inputs import read_texts

if TYPE_CHECKING:
    from edgelr.artifacts import Package
    from edgelr.device.schema import Device


def tag_texts(package: Package, inputs: Sequence[str], device: Device) -> dict[str, Any]:
    """Tag the words of every input, and print a line for each: ``word/TAG``, without the tag ``O``.

    Args:
        package: As opened by ``open_package``.
        inputs: Texts, with spaces between words; ``-`` stands for the lines of standard input.
        device: The profile to run as.

    Returns:
        ``{"taggings": [{"input", "words": [{"word", "tag"}]}]}``.

    Raises:
        UsageError: There is no input.
        DataError: Standard input holds no text.
    """
    from edgelr.device.session import open_session
    from edgelr.metrics.tagging import OUTSIDE
    from edgelr.runtime.labels import read_labels
    from edgelr.runtime.package import model_path, session_entries
    from edgelr.runtime.tagging import word_scores, word_tags
    from edgelr.runtime.text import package_tokenizer

    texts = read_texts(inputs)
    labels, tokenizer = read_labels(package.folder), package_tokenizer(package)
    session = open_session(model_path(package), device, entries=session_entries(package, device.name))
    rows = []
    for text in texts:
        words = text.split()
        tags = word_tags(word_scores(package, session, tokenizer, words), labels) if words else []
        pairs = list(zip(words, tags, strict=True))
        say(" ".join(word if tag == OUTSIDE else f"{word}/{tag}" for word, tag in pairs))
        rows.append({"input": text, "words": [{"word": word, "tag": tag} for word, tag in pairs]})
    return {"taggings": rows}
