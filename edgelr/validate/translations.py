"""Accuracy of translation packages: their output next to references and to the dense model's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.examples import Translation
from edgelr.metrics.translation import translation_scores
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.translate import translate, translator_of
from edgelr.validate.outputs import CheckedDecoder, dense_outputs

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
    opened = translator_of(package, sessions)
    translator = replace(opened, decoder=CheckedDecoder(opened.decoder, package))
    outputs = []
    for text in translate(translator, [example.source for example in examples], beams=1):
        outputs.append(" ".join(text.split()))
        if each is not None:
            each()
    return translation_scores(outputs, _references(examples), dense)


def score_dense_translations(package: Package) -> dict[str, Scores]:
    """Scores of the dense model, from its translations that are stored in the package."""
    examples = folder_examples(package.folder, Translation)
    dense = dense_outputs(package, len(examples))
    return translation_scores(dense, _references(examples), dense)


def _references(examples: tuple[Translation, ...]) -> list[str]:
    return [" ".join(example.target.split()) for example in examples]
