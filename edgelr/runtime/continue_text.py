"""The beginning of a text in, how it goes on out: the light face of the task ``text-generation``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DataError
from edgelr.metrics.text_generation import LENGTH
from edgelr.runtime.causal_decoder import DECODER, CausalDecoder
from edgelr.runtime.decode import greedy_steps
from edgelr.runtime.generation import Generation, check_tokens, read_generation
from edgelr.runtime.logits import log_softmax
from edgelr.runtime.package import model_path, session_entries
from edgelr.runtime.tokens import Codec, check_codec, open_codec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_CONTEXT = 8  # tokens before, that decide how the next ones are spelled: with a space or without
_HALF = "\ufffd"  # what a tokenizer gives for the first bytes of a character


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A package of a causal language model, open on a device.

    Attributes:
        codec: Its tokenizer.
        generation: How it generates; ``max_length`` counts the prompt, too.
        decoder: Its graph.
    """

    codec: Codec
    generation: Generation
    decoder: CausalDecoder


def open_writer(package: Package, device: Device) -> Writer:
    """Open the graph of a package, with the settings measured as best for the device, and its tokenizer.

    Args:
        package: As opened by ``open_package``.
        device: Where it runs.

    Raises:
        DamagedArtifactError: The graph, the tokenizer or ``generation.json`` is unusable, or they do not
            belong together.
        MissingRequirementError: The device's provider is not here.
    """
    path, entries = model_path(package, DECODER), session_entries(package, device.name)
    return writer_of(package, {DECODER: open_session(path, device, entries=entries)})


def writer_of(package: Package, sessions: Mapping[str, InferenceSession]) -> Writer:
    """Put a writer together from a session of its graph.

    Args:
        package: As opened by ``open_package``.
        sessions: By role.

    Raises:
        DamagedArtifactError: As ``open_writer``.
    """
    codec, generation = open_codec(package.folder, package.settings), read_generation(package.folder)
    decoder = CausalDecoder(sessions[DECODER])
    check_codec(codec, decoder.vocabulary)
    check_tokens(package.folder, generation, decoder.vocabulary)
    return Writer(codec=codec, generation=generation, decoder=decoder)


def prompt_of(writer: Writer, text: str, *, cut: bool = False) -> list[int]:
    """Tokens of the beginning of a text; of nothing, the token that a text starts with.

    Args:
        writer: The package.
        text: Any text.
        cut: Whether to take as many as the package holds, and no room for more.

    Raises:
        DataError: The package has no room for more tokens behind it.
    """
    # Half a surrogate pair, as an argument that is not UTF-8 has, is no text to any tokenizer.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    ids = writer.codec.encode(text) or [writer.generation.decoder_start_token_id]
    if cut:
        return ids[: writer.generation.max_length]
    if len(ids) >= writer.generation.max_length:
        raise DataError(
            f"the text has {len(ids)} tokens, and this package holds {writer.generation.max_length} "
            "with those that it writes",
            "give a shorter text, or build the package with a larger task.max_tokens",
        )
    return ids


def continue_tokens(writer: Writer, prompt: Sequence[int], max_tokens: int | None = None) -> Iterator[int]:
    """The most likely token at every step, as soon as it is known, up to and with the one that ends the text.

    Args:
        writer: The package.
        prompt: Tokens to go on after, at least one.
        max_tokens: Most tokens to write, if that is fewer than the package allows.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on the graph.
    """
    import numpy as np

    longest = writer.generation.max_length
    allowed = longest if max_tokens is None else min(longest, len(prompt) + max_tokens)
    generation = replace(writer.generation, max_length=allowed)
    for tokens in greedy_steps(writer.decoder, 1, generation, np.array([prompt], np.int64)):
        yield int(tokens[0])


def pieces_of_text(codec: Codec, prompt: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of tokens as they come, in pieces of whole characters.

    A token alone does not say its text: it may be part of a character, and its space depends on what is
    before it. So every piece is what the text grows by.

    Args:
        codec: The tokenizer.
        prompt: Tokens before.
        tokens: Those whose text is wanted.
    """
    before, new = list(prompt[-_CONTEXT:]), list[int]()
    shown = codec.decode(before)
    for token in tokens:
        new.append(token)
        text = codec.decode([*before, *new])
        if not text.endswith(_HALF):
            yield text[len(shown) :]
            before, new = [*before, *new][-_CONTEXT:], []
            shown = codec.decode(before)
    if new:
        yield codec.decode([*before, *new])[len(shown) :]


def half_of(ids: Sequence[int], limit: int) -> list[int]:
    """The first half of a text, with room for ``LENGTH`` tokens behind it.

    Args:
        ids: Its tokens, at least one.
        limit: Most tokens that a model holds.
    """
    return list(ids[: max(1, min(len(ids) // 2, limit - LENGTH))])


def loss_of(writer: Writer, ids: Sequence[int]) -> float:
    """Minus the log-likelihood of tokens, each after those before it; of the first one nothing is known.

    Args:
        writer: The package.
        ids: Any number.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on the graph.
    """
    import numpy as np

    if len(ids) < 2:
        return 0.0
    writer.decoder.start()
    scores = log_softmax(writer.decoder.scores(np.array(ids[:-1], np.int64)))
    return -float(np.take_along_axis(scores, np.array(ids[1:])[:, None], axis=1).sum(dtype=np.float64))


def timed_continuation(writer: Writer, prompt: Sequence[int], new_tokens: int) -> tuple[float, float]:
    """Time a fixed number of greedy tokens, wherever the text would end.

    Args:
        writer: The package.
        prompt: Tokens, at least one.
        new_tokens: How many to write; at least 1.

    Returns:
        Seconds until the first token is known, prompt included, and until the last one is.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on the graph, such as on a position it does not have.
    """
    import numpy as np

    length = len(prompt) + new_tokens
    endless = replace(writer.generation, eos_token_id=(), forced_eos_token_id=None, max_length=length)
    begin = time.perf_counter()
    steps = greedy_steps(writer.decoder, 1, endless, np.array([prompt], np.int64))
    next(steps)
    first = time.perf_counter() - begin
    for _ in steps:
        pass
    return first, time.perf_counter() - begin
