"""Packages that translate: judged by references and by the dense model's translations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.examples import AnyExample, Translation, spread
from edgelr.kinds.cosines import COMPARED
from edgelr.kinds.kind import Judge
from edgelr.kinds.outputs import dense_texts
from edgelr.kinds.sources import text_sources
from edgelr.kinds.steps import SOURCES, compare_steps, step_feeds
from edgelr.runtime.decoder_graph import TEXT
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import session_entries

if TYPE_CHECKING:
    from edgelr.device.schema import Device
    from edgelr.kinds.kind import Feeds, Sessions
    from edgelr.progress import Progress

EXAMPLE = Translation
OPTIONS = ("file", "beam", "max_tokens")
UNIT = "tokens"
RUNS = 1

dense_answers = dense_texts


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Translate every input; see ``use_translation.py``."""
    from edgelr.use_translation import translate_inputs

    return translate_inputs(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """Greedy translations, one text a call, next to the references."""
    from edgelr.metrics.translation import translation_scores
    from edgelr.runtime.answers import references_of, translations_of

    pairs = [each for each in examples if isinstance(each, Translation)]
    references = references_of(pairs)
    return Judge(
        answer=lambda package, sessions, each: translations_of(package, sessions, pairs, each),
        score=lambda own, dense: translation_scores(own, references, dense),
    )


def parity(package: Package, sessions: Sessions) -> None:
    """None: what the dense model said in torch is stored for every example, and ``agreement`` counts."""


def notes() -> tuple[str, ...]:
    """Which BLEU and which chrF."""
    from edgelr.metrics.translation import signatures

    metrics: dict[str, list[str]] = {}
    for metric, signature in signatures().items():
        metrics.setdefault(signature, []).append(metric)
    return tuple(f"{', '.join(names)} by sacrebleu: {signature}" for signature, names in metrics.items())


def feeds(package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
    """Tokens of some sources, and the decoder's first steps on them."""
    few = spread([each for each in examples if isinstance(each, Translation)], SOURCES)
    return step_feeds(package, text_sources(package, few), TEXT)


def compare(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """Encoder and decoder on the package's own examples; see ``Kind.compare``."""
    examples = spread(folder_examples(package.folder, Translation), COMPARED)
    return compare_steps(package, folder, text_sources(package, examples), TEXT, progress)


def timed(package: Package, device: Device) -> dict[str, Any]:
    """A whole translation."""
    return {"translation": str(package.folder), "entries": session_entries(package, device.name)}


def timed_inputs(package: Package, length: int) -> dict[str, Any]:
    """A source of ``length`` tokens, to be translated into as many."""
    from edgelr.runtime.tokens import open_codec

    codec = open_codec(package.folder, package.settings)
    joined: list[int] = []
    end: list[int] = []
    for example in itertools.cycle(folder_examples(package.folder, Translation)):
        *words, last = codec.encode(example.source)
        joined, end = [*joined, *words], [last]
        if len(joined) >= length:
            break
    return {"input_ids": [[*joined[: length - 1], *end]], "new_tokens": length}
