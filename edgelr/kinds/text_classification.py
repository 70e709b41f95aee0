"""Packages that name what a text is about: judged by labels, and by those that the dense model chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError, QuantizeError
from edgelr.examples import AnyExample, Labeled, spread
from edgelr.kinds import arrays
from edgelr.kinds.cosines import COMPARED
from edgelr.kinds.kind import Judge
from edgelr.kinds.outputs import REFERENCE
from edgelr.kinds.sentence_embedding import tokens_of_length
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.classify import logits_of
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.labels import label_rows, read_labels
from edgelr.runtime.package import model_path
from edgelr.runtime.text import batch_tokens, package_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgelr.device.schema import Device
    from edgelr.kinds.kind import Each, Feeds, Sessions
    from edgelr.metrics.scores import Scores
    from edgelr.progress import Progress

EXAMPLE = Labeled
OPTIONS = ()
UNIT = "tokens"
RUNS = 1

_TEXTS = 256  # to calibrate on
DENSE = "dense_logits"

timed = arrays.timed
parity = arrays.parity


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Scores of labels for some examples, ``[examples, labels]``, and the right labels, ``[examples]``."""

    logits: NDArray[np.floating[Any]]
    labels: NDArray[np.int64]


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Name the label of every input; see ``use_classify.py``."""
    from edgelr.use_classify import classify

    return classify(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """Scores of every label, one text a call."""
    texts = [each for each in examples if isinstance(each, Labeled)]
    return Judge(answer=lambda package, sessions, each: _answers(package, sessions, texts, each), score=score)


def _answers(package: Package, sessions: Sessions, texts: Sequence[Labeled], each: Each | None) -> Answers:
    import numpy as np

    tokenizer, rows = package_tokenizer(package), []
    for example in texts:
        rows.append(logits_of(package, sessions["model"], tokenizer, example.text))
        if each is not None:
            each()
    return Answers(logits=np.stack(rows), labels=_labels(package, texts))


def _labels(package: Package, texts: Sequence[Labeled]) -> NDArray[np.int64]:
    import numpy as np

    wanted = label_rows(read_labels(package.folder), [each.label for each in texts])
    return np.array(wanted, np.int64)


def score(own: Answers, dense: Answers) -> dict[str, Scores]:
    """Every metric of labels.

    Args:
        own: A model's.
        dense: The dense model's, of the same examples.

    Raises:
        DamagedArtifactError: They are of different labels.
    """
    from edgelr.metrics.classification import classification_scores

    if own.logits.shape != dense.logits.shape:
        raise DamagedArtifactError(
            f"scores are of {own.logits.shape[1]} labels, the dense model's of {dense.logits.shape[1]}",
            "get or build the package again",
        )
    return classification_scores(own.logits, dense.logits, dense.labels)


def dense_answers(package: Package, count: int) -> Answers:
    """The dense model's scores, which are stored for every example."""
    path = package.folder / REFERENCE
    stored = read_arrays(path, [DENSE])[DENSE]
    examples = folder_examples(package.folder, Labeled)
    if stored.ndim != 2 or len(stored) != count or stored.shape[1] != len(read_labels(package.folder)):
        raise DamagedArtifactError(f"{path}: dense scores {list(stored.shape)} do not fit {count} examples")
    return Answers(logits=stored, labels=_labels(package, examples))


def notes() -> tuple[str, ...]:
    """Which F1."""
    return ("f1 is the mean of the F1 of every label that occurs (macro)",)


def feeds(package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
    """Tokens of some texts."""
    few = spread([each for each in examples if isinstance(each, Labeled)], _TEXTS)
    tokenizer = package_tokenizer(package)
    return {"model": [batch_tokens(tokenizer, [each.text]) for each in few]}


def compare(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """Scores of the package's own examples, about their mean, which changes no probability."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.metrics.arrays import alike

    device, path, tokenizer = load_devices()["cpu-1t"], model_path(package), package_tokenizer(package)
    dense, small = open_session(path, device), open_session(folder / path.name, device)
    few, found = spread(folder_examples(package.folder, Labeled), COMPARED), []
    with progress.bar("comparing with fp32", len(few)) as advance:
        for each in few:
            one, other = (logits_of(package, session, tokenizer, each.text) for session in (dense, small))
            if not np.isfinite(other).all():
                raise QuantizeError(f"{path.name}: the quantized graph gives values that are not finite")
            found.append(alike(one - one.mean(), other - other.mean()))
            advance()
    return {"model": float(np.mean(found))}


def timed_inputs(package: Package, length: int) -> dict[str, Any]:
    """One text of exactly ``length`` tokens, made of the package's examples."""
    texts = [example.text for example in folder_examples(package.folder, Labeled)]
    return tokens_of_length(package_tokenizer(package), texts, length)
