"""What a package answers to examples, one a call, so that it can be scored: the same code whoever asks.

Validation asks on test examples, accuracy control of quantization on those of the validation split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.errors import ExportError, QuantizeError
from edgelr.examples import Example, Passage, Translation
from edgelr.metrics.text_generation import LENGTH, Readings, as_continuations
from edgelr.runtime.continue_text import continue_tokens, half_of, loss_of, prompt_of, writer_of
from edgelr.runtime.text import embed, package_tokenizer
from edgelr.runtime.transcribe import Transcriber, text_of, transcribe, transcriber_of
from edgelr.runtime.translate import translate, translator_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from edgelr.runtime.decode import SourceDecoder
    from edgelr.runtime.long_audio import Pcm

    Vectors = NDArray[np.float32]

Each = Callable[[], object]


def vectors_of(
    package: Package,
    session: InferenceSession,
    pairs: Sequence[tuple[str, Example]],
    each: Each | None = None,
) -> tuple[Vectors, Vectors]:
    """Embed queries and passages.

    Args:
        package: Whose tokenizer counts.
        session: Its graph, open.
        pairs: Queries, each with the example that it is of.
        each: Called after every text.

    Returns:
        ``[n, dim]`` of queries, and of passages.

    Raises:
        ExportError, QuantizeError: A vector is not finite.
        UnsupportedModelError: The graph does not fit the task.
    """
    tokenizer = package_tokenizer(package)
    queries = embed(session, tokenizer, [query for query, _ in pairs], each)
    passages = embed(session, tokenizer, [example.passage for _, example in pairs], each)
    for vectors in (queries, passages):
        check_finite(vectors, package)
    return queries, passages


def translations_of(
    package: Package,
    sessions: Mapping[str, InferenceSession],
    examples: Sequence[Translation],
    each: Each | None = None,
) -> list[str]:
    """Translate greedily; runs of spaces become one.

    Args:
        package: Whose tokenizer and generation settings count.
        sessions: Its graphs by role, open.
        examples: Whose sources are translated.
        each: Called after every text.

    Raises:
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: A graph does not fit the task.
    """
    opened = translator_of(package, sessions)
    translator = replace(opened, decoder=CheckedDecoder(opened.decoder, package))
    outputs = []
    for text in translate(translator, [example.source for example in examples], beams=1):
        outputs.append(" ".join(text.split()))
        if each is not None:
            each()
    return outputs


def transcripts_of(
    package: Package,
    sessions: Mapping[str, InferenceSession],
    sounds: Iterable[Pcm],
    each: Each | None = None,
) -> list[str]:
    """Transcribe greedily; runs of spaces become one.

    Args:
        package: Whose tokenizer and generation settings count.
        sessions: Its graphs by role, open.
        sounds: PCM ``[samples]`` of 16 kHz.
        each: Called after every sound.

    Raises:
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: A graph does not fit the task.
    """
    transcriber = transcriber_of(package, sessions)
    if isinstance(transcriber, Transcriber):
        transcriber = replace(transcriber, decoder=CheckedDecoder(transcriber.decoder, package))
    outputs = []
    for sound in sounds:
        outputs.append(" ".join(text_of(transcribe(transcriber, [sound], beams=1)).split()))
        if each is not None:
            each()
    return outputs


def readings_of(
    package: Package,
    sessions: Mapping[str, InferenceSession],
    examples: Sequence[Passage],
    each: Each | None = None,
) -> Readings:
    """Score every token of texts, and go on greedily after the first half of each.

    Args:
        package: Whose tokenizer and generation settings count.
        sessions: Its graph, open.
        examples: Texts, cut where the package is full.
        each: Called twice for every text: after each of the two.

    Raises:
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: The graph does not fit the task.
    """
    import numpy as np

    writer = writer_of(package, sessions)
    losses, counts, continuations = [], [], []
    for example in examples:
        ids = prompt_of(writer, example.text, cut=True)
        losses.append(loss_of(writer, ids))
        counts.append(len(ids) - 1)
        check_finite(np.array(losses[-1:], np.float32), package)
        if each is not None:
            each()
        prompt = half_of(ids, writer.generation.max_length)
        continuations.append(list(continue_tokens(writer, prompt, LENGTH)))
        if each is not None:
            each()
    return Readings(
        losses=np.array(losses),
        tokens=np.array(counts, np.int64),
        continuations=as_continuations(continuations),
    )


def references_of(examples: Sequence[Translation]) -> list[str]:
    """What the examples should have been translated to, with spaces like those of ``translations_of``."""
    return [" ".join(example.target.split()) for example in examples]


class CheckedDecoder:
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


def check_finite(values: NDArray[np.float32], package: Package) -> None:
    """Make sure that what a graph gives are numbers.

    Args:
        values: Of any shape.
        package: What an error names.

    Raises:
        ExportError, QuantizeError: One is NaN or infinity.
    """
    import numpy as np

    if np.isfinite(values).all():
        return
    error = ExportError if package.precision == "fp32" else QuantizeError
    raise error(
        f"{package.folder}: the {package.precision} graph of {package.name} gives NaN or infinity",
        "build it again with another scheme or keep share, or leave quantize out",
    )
