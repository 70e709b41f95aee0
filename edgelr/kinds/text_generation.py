"""Packages that go on with texts: judged by the texts themselves and by how the dense model goes on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.examples import AnyExample, Passage, spread
from edgelr.kinds.cosines import COMPARED, cosines
from edgelr.kinds.kind import Judge
from edgelr.kinds.outputs import REFERENCE
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.causal_decoder import DECODER, text_feeds
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path

if TYPE_CHECKING:
    from edgelr.device.schema import Device
    from edgelr.kinds.kind import Feeds, Sessions
    from edgelr.metrics.text_generation import Readings
    from edgelr.progress import Progress

EXAMPLE = Passage
OPTIONS = ("max_tokens",)
UNIT = "tokens"
RUNS = 2

_CALIBRATED = 64  # texts, of which every token is one row of statistics
_LONGEST = 64  # tokens of a text that is compared: its logits are all there at once
_STORED = ("dense_losses", "dense_tokens", "dense_continuations")


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Go on with every input; see ``use_generation.py``."""
    from edgelr.use_generation import continue_inputs

    return continue_inputs(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """How likely the texts are, and greedy continuations of their first halves, one text a call."""
    from edgelr.metrics.text_generation import generation_scores
    from edgelr.runtime.answers import readings_of

    texts = [each for each in examples if isinstance(each, Passage)]
    return Judge(
        answer=lambda package, sessions, each: readings_of(package, sessions, texts, each),
        score=generation_scores,
    )


def dense_answers(package: Package, count: int) -> Readings:
    """What the dense model made of the package's examples in torch; see ``Kind.dense_answers``."""
    from edgelr.metrics.text_generation import LENGTH, Readings

    path = package.folder / REFERENCE
    stored = read_arrays(path, _STORED)
    losses, tokens, continuations = (stored[name] for name in _STORED)
    if losses.shape != (count,) or tokens.shape != (count,) or continuations.shape != (count, LENGTH):
        raise DamagedArtifactError(
            f"{path}: {[list(stored[name].shape) for name in _STORED]} do not fit {count} examples",
            "get or build the package again",
        )
    return Readings(losses=losses, tokens=tokens, continuations=continuations)


def parity(package: Package, sessions: Sessions) -> None:
    """None: what the dense model said in torch is stored for every example, and ``agreement`` counts."""


def notes() -> tuple[str, ...]:
    """Which perplexity."""
    return (
        "perplexity is that of a token of the model's own tokenizer, over whole texts without their first "
        "token: compare it only between models of one tokenizer",
    )


def feeds(package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
    """Whole texts, each read at once."""
    few = spread([each for each in examples if isinstance(each, Passage)], _CALIBRATED)
    return {DECODER: list(_text_feeds(package, few))}


def compare(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """Scores of every token of the package's own examples, about their mean; see ``Kind.compare``."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.runtime.graph import run_graph

    device, fp32 = load_devices()["cpu-1t"], model_path(package, DECODER)
    dense, small = (open_session(path, device) for path in (fp32, folder / fp32.name))
    examples = spread(folder_examples(package.folder, Passage), COMPARED)
    found = []
    with progress.bar("comparing with fp32", len(examples)) as advance:
        for given in _text_feeds(package, examples, _LONGEST):
            one, other = (run_graph(session, given)["logits"][0] for session in (dense, small))
            one, other = (scores - scores.mean(axis=1, keepdims=True) for scores in (one, other))
            found.append(cosines(one, other, fp32.name))
            advance()
    return {DECODER: float(np.concatenate(found).mean())}


def timed(package: Package, device: Device) -> dict[str, Any]:
    """Reading a prompt and going on."""
    return {"continuation": str(package.folder)}


def timed_inputs(package: Package, length: int) -> dict[str, Any]:
    """A prompt of ``length`` tokens, and as many to write."""
    from edgelr.runtime.tokens import open_codec

    codec = open_codec(package.folder, package.settings)
    joined: list[int] = []
    for example in itertools.cycle(folder_examples(package.folder, Passage)):
        joined += codec.encode(example.text)
        if len(joined) >= length:
            break
    return {"input_ids": [joined[:length]], "new_tokens": length}


def _text_feeds(package: Package, examples: Sequence[Passage], longest: int | None = None) -> list[Feeds]:
    import numpy as np

    from edgelr.runtime.tokens import open_codec

    codec = open_codec(package.folder, package.settings)
    inputs = {entry.name: list(entry.shape) for entry in package.graphs[DECODER].inputs}
    ids = (codec.encode(example.text)[: longest or codec.limit] for example in examples)
    return [text_feeds(inputs, np.array(tokens, np.int64)) for tokens in ids if tokens]
