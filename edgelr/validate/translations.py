"""Accuracy of translation packages: their output next to references and to the dense model's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.examples import Translation
from edgelr.metrics.translation import translation_scores
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.translate import translate, translator_of
from edgelr.validate.embeddings import REFERENCE, check_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from edgelr.metrics.scores import Scores
    from edgelr.runtime.decode import SourceDecoder


def score_translations(
    package: Package,
    sessions: Mapping[str, InferenceSession],
    reference: Package,
    each: Callable[[], object] | None,
) -> dict[str, Scores]:
    """Translate the examples greedily, one a call, and score them; see ``accuracy.score_variant``."""
    examples = folder_examples(package.folder, Translation)
    dense = _dense(reference, len(examples))
    opened = translator_of(package, sessions)
    translator = replace(opened, decoder=_Checked(opened.decoder, package))
    outputs = []
    for text in translate(translator, [example.source for example in examples], beams=1):
        outputs.append(" ".join(text.split()))
        if each is not None:
            each()
    return translation_scores(outputs, _references(examples), dense)


class _Checked:
    """A decoder whose scores are looked at: the largest of numbers that are none is a token like any other.

    Args:
        decoder: Does the work.
        package: What an error names.
    """

    def __init__(self, decoder: SourceDecoder, package: Package) -> None:
        self._decoder, self._package = decoder, package
        self.read, self.start, self.reorder = decoder.read, decoder.start, decoder.reorder

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """As of the decoder.

        Raises:
            ExportError, QuantizeError: A score is not finite.
        """
        scores = self._decoder.step(tokens)
        check_finite(scores, self._package)
        return scores


def score_dense_translations(package: Package) -> dict[str, Scores]:
    """Scores of the dense model, from its translations that are stored in the package."""
    examples = folder_examples(package.folder, Translation)
    dense = _dense(package, len(examples))
    return translation_scores(dense, _references(examples), dense)


def _references(examples: tuple[Translation, ...]) -> list[str]:
    return [" ".join(example.target.split()) for example in examples]


def _dense(package: Package, count: int) -> list[str]:
    """The dense model's translations: one line an example, kept as the bytes of one text."""
    path = package.folder / REFERENCE
    stored = read_arrays(path, ["dense_outputs"])["dense_outputs"]
    try:
        lines = stored.tobytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DamagedArtifactError(f"{path}: dense_outputs is no text: {error}") from error
    if len(lines) != count:
        raise DamagedArtifactError(f"{path}: {len(lines)} dense outputs do not fit {count} examples")
    return lines
