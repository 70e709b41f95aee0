"""Packages that tag the words of a text: judged by tags, and by those that the dense model gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.examples import AnyExample, Tagged, spread
from edgelr.kinds import arrays
from edgelr.kinds.cosines import COMPARED
from edgelr.kinds.kind import Judge
from edgelr.kinds.outputs import REFERENCE, dense_texts
from edgelr.kinds.sentence_embedding import tokens_of_length
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.labels import read_labels
from edgelr.runtime.package import model_path
from edgelr.runtime.tagging import word_scores, word_tags, word_tokens
from edgelr.runtime.text import package_tokenizer

if TYPE_CHECKING:
    from edgelr.device.schema import Device
    from edgelr.kinds.kind import Each, Feeds, Sessions
    from edgelr.progress import Progress

EXAMPLE = Tagged
OPTIONS = ()
UNIT = "tokens"
RUNS = 1

_TEXTS = 256  # to calibrate on

timed = arrays.timed
parity = arrays.parity


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Tag the words of every input; see ``use_tagging.py``."""
    from edgelr.use_tagging import tag_texts

    return tag_texts(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """Tags of every word, one text a call."""
    from edgelr.metrics.tagging import tagging_scores

    texts = [each for each in examples if isinstance(each, Tagged)]
    right = [each.tags.split() for each in texts]
    return Judge(
        answer=lambda package, sessions, each: _answers(package, sessions, texts, each),
        score=lambda own, dense: tagging_scores(own, right, dense),
    )


def _answers(
    package: Package, sessions: Sessions, texts: Sequence[Tagged], each: Each | None
) -> list[list[str]]:
    tokenizer, labels, found = package_tokenizer(package), read_labels(package.folder), []
    for example in texts:
        scores = word_scores(package, sessions["model"], tokenizer, example.text.split())
        found.append(word_tags(scores, labels))
        if each is not None:
            each()
    return found


def dense_answers(package: Package, count: int) -> list[list[str]]:
    """The dense model's tags, which are stored for every example."""
    found = [line.split() for line in dense_texts(package, count)]
    words = [len(each.text.split()) for each in folder_examples(package.folder, Tagged)]
    if [len(tags) for tags in found] != words:
        raise DamagedArtifactError(
            f"{package.folder / REFERENCE}: the dense model's tags do not fit the words of the examples",
            "get or build the package again",
        )
    return found


def notes() -> tuple[str, ...]:
    """Which F1."""
    return ("f1 is of whole parts of the texts, as CoNLL counts them",)


def feeds(package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
    """Tokens of some texts."""
    few = spread([each for each in examples if isinstance(each, Tagged)], _TEXTS)
    tokenizer = package_tokenizer(package)
    return {"model": [word_tokens(tokenizer, each.text.split())[0] for each in few]}


def compare(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """Scores of the words of the package's own examples, about their mean; see ``Kind.compare``."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.errors import QuantizeError
    from edgelr.metrics.arrays import alike

    device, path, tokenizer = load_devices()["cpu-1t"], model_path(package), package_tokenizer(package)
    pair = [open_session(path, device), open_session(folder / path.name, device)]
    few, found = spread(folder_examples(package.folder, Tagged), COMPARED), []
    with progress.bar("comparing with fp32", len(few)) as advance:
        for each in few:
            words = each.text.split()
            one, other = (
                np.stack([row for row in word_scores(package, session, tokenizer, words) if row is not None])
                for session in pair
            )
            if not np.isfinite(other).all():
                raise QuantizeError(f"{path.name}: the quantized graph gives values that are not finite")
            found.append(alike(one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True)))
            advance()
    return {"model": float(np.mean(found))}


def timed_inputs(package: Package, length: int) -> dict[str, Any]:
    """One text of exactly ``length`` tokens, made of the package's examples."""
    texts = [example.text for example in folder_examples(package.folder, Tagged)]
    return tokens_of_length(package_tokenizer(package), texts, length)
