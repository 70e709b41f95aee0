"""Accuracy of translation packages: their output next to references and to the dense model's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.examples import Translation
from edgelr.metrics.translation import translation_scores
from edgelr.runtime.answers import references_of, translations_of
from edgelr.runtime.examples import folder_examples
from edgelr.validate.outputs import dense_outputs

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from edgelr.metrics.scores import Scores


def score_translations(
    package: Package,
    sessions: Mapping[str, InferenceSession],
    reference: Package,
    each: Callable[[], object] | None,
) -> dict[str, Scores]:
    """Translate the examples greedily, one a call, and score them; see ``accuracy.score_variant``."""
    examples = folder_examples(package.folder, Translation)
    dense = dense_outputs(reference, len(examples))
    outputs = translations_of(package, sessions, examples, each)
    return translation_scores(outputs, references_of(examples), dense)


def score_dense_translations(package: Package) -> dict[str, Scores]:
    """Scores of the dense model, from its translations that are stored in the package."""
    examples = folder_examples(package.folder, Translation)
    dense = dense_outputs(package, len(examples))
    return translation_scores(dense, references_of(examples), dense)
