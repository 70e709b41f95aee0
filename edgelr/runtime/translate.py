"""Texts in, translations out: the light face of the task ``translation``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.runtime.decode import SourceDecoder, beam_search, greedy, greedy_steps
from edgelr.runtime.decoder_graph import GraphDecoder
from edgelr.runtime.generation import Generation, check_tokens, read_generation
from edgelr.runtime.long_text import pieces_of
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.tokens import Codec, check_codec, open_codec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

ENCODER, DECODER = "encoder", "decoder"
_WINDOW = 8  # batches that are sorted by length together

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Translator:
    """A translation package, open on a device.

    Attributes:
        codec: Its tokenizer.
        generation: How it generates.
        prefix: What every source text begins with, such as T5's ``translate English to German: ``.
        decoder: Its graphs.
    """

    codec: Codec
    generation: Generation
    prefix: str
    decoder: SourceDecoder


def open_translator(package: Package, device: Device) -> Translator:
    """Open the graphs of a package, with the settings measured as best for the device, and its tokenizer.

    Args:
        package: As opened by ``open_package``. Its setting ``max_tokens`` is the most source tokens;
            ``prefix``, where there is one, goes before every text; ``source_vocabulary`` is the size of the
            encoder's table where it is not that of the logits.
        device: Where it runs.

    Raises:
        DamagedArtifactError: A graph, the tokenizer, ``generation.json`` or a setting is unusable, or they do
            not belong together.
        MissingRequirementError: The device's provider is not here.
    """
    # First: what its parser lets go of, the sessions use again, a mebibyte of a small package's seven.
    codec = open_codec(package.folder, package.settings)
    return _put_together(package, codec, open_graphs(package, device, (ENCODER, DECODER)))


def translator_of(package: Package, sessions: Mapping[str, InferenceSession]) -> Translator:
    """Put a translator together from sessions of its graphs.

    Args:
        package: As opened by ``open_package``.
        sessions: By role.

    Raises:
        DamagedArtifactError: As ``open_translator``.
    """
    return _put_together(package, open_codec(package.folder, package.settings), sessions)


def _put_together(package: Package, codec: Codec, sessions: Mapping[str, InferenceSession]) -> Translator:
    generation = read_generation(package.folder)
    graphs = GraphDecoder(sessions[ENCODER], sessions[DECODER])
    size = package.settings.get("source_vocabulary")
    check_codec(codec, graphs.vocabulary, size if isinstance(size, int) else None)
    check_tokens(package.folder, generation, graphs.vocabulary)
    prefix = str(package.settings.get("prefix", ""))
    return Translator(codec=codec, generation=generation, prefix=prefix, decoder=graphs)


def translate(
    translator: Translator,
    texts: Iterable[str],
    *,
    beams: int | None = None,
    max_tokens: int | None = None,
    batch: int = 1,
    note: Note | None = None,
) -> Iterator[str]:
    """Translate texts one after another, whatever is in them.

    An empty text or one of spaces is an empty translation. A text with more tokens than the package takes is
    cut at ends of sentences, or else at spaces, and its pieces are translated one by one.

    Args:
        translator: The package.
        texts: Any number, taken as they are needed.
        beams: 1 is greedy; the package's own when None.
        max_tokens: Most target tokens a text or piece, if that is fewer than the package allows.
        batch: Texts that are run together. One, as an app does: the scales of dynamic int8 depend on the rest
            of a batch.
        note: Told of every text that was cut.

    Yields:
        One translation a text, in their order, as soon as it is there.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on a graph.
    """
    remaining, number = iter(texts), 0
    beams = translator.generation.num_beams if beams is None else beams
    while window := list(islice(remaining, 1 if batch == 1 else batch * _WINDOW)):
        pieces, owners = [], []
        for place, text in enumerate(window):
            found = _source_pieces(translator, text, number + place + 1, note)
            pieces += found
            owners += [place] * len(found)
        parts: list[list[str]] = [[] for _ in window]
        for place, part in zip(owners, _run(translator, pieces, beams, max_tokens, batch), strict=True):
            parts[place].append(part)
        yield from (" ".join(part for part in found if part) for found in parts)
        number += len(window)


def generate(
    translator: Translator, sources: Sequence[Sequence[int]], *, beams: int, max_tokens: int | None = None
) -> list[list[int]]:
    """Target tokens of a batch of source tokens.

    Args:
        translator: The package.
        sources: Source tokens as the codec gives them, at least one text; shorter ones are padded.
        beams: 1 is greedy.
        max_tokens: Most target tokens, if that is fewer than the package allows.

    Returns:
        Target tokens of every text, without the start token, up to and with the one that ended it.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on a graph.
    """
    translator.decoder.read(_padded(sources, translator.generation.pad_token_id))
    if beams == 1:
        return greedy(translator.decoder, len(sources), translator.generation, max_tokens)
    return beam_search(translator.decoder, len(sources), translator.generation, beams, max_tokens)


def timed_translation(
    translator: Translator, sources: Sequence[Sequence[int]], new_tokens: int
) -> tuple[float, float, float]:
    """Time a greedy translation of a batch with a fixed number of target tokens, wherever it would end.

    Args:
        translator: The package.
        sources: Source tokens of every text, at least one.
        new_tokens: How many tokens to generate; at least 1.

    Returns:
        Seconds until the source is read, until the first token is known, and until the last one is.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on a graph, such as on a position it does not have.
    """
    endless = replace(
        translator.generation,
        eos_token_id=(),
        forced_eos_token_id=None,
        max_length=new_tokens + 1,
    )
    begin = time.perf_counter()
    translator.decoder.read(_padded(sources, endless.pad_token_id))
    read = time.perf_counter() - begin
    steps = greedy_steps(translator.decoder, len(sources), endless)
    next(steps)
    first = time.perf_counter() - begin
    for _ in steps:
        pass
    return read, first, time.perf_counter() - begin


def _source_pieces(translator: Translator, text: str, number: int, note: Note | None) -> list[list[int]]:
    """Source tokens of a text, in as many pieces as it needs; none for an empty text."""
    codec, prefix = translator.codec, translator.prefix
    # Half a surrogate pair, as an argument that is not UTF-8 has, is no text to any tokenizer.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not text.strip():
        return []
    whole = codec.encode(prefix + text)
    if len(whole) <= codec.limit:
        return [whole]
    pieces = pieces_of(text, lambda piece: codec.fits(prefix + piece), codec.lead(text))
    if note is not None:
        note(
            f"text {number} has {len(whole)} tokens, and this package takes {codec.limit}: "
            f"it was translated in {len(pieces)} pieces"
        )
    return [codec.cut(codec.encode(prefix + piece)) for piece in pieces]


def _run(
    translator: Translator, pieces: Sequence[list[int]], beams: int, max_tokens: int | None, batch: int
) -> list[str]:
    """Translations of pieces, in their order; those of one batch are of similar length."""
    found = [""] * len(pieces)
    order = sorted(range(len(pieces)), key=lambda place: len(pieces[place]))
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        sources = [pieces[place] for place in places]
        targets = generate(translator, sources, beams=beams, max_tokens=max_tokens)
        for place, target in zip(places, targets, strict=True):
            found[place] = translator.codec.decode(target)
    return found


def _padded(sources: Sequence[Sequence[int]], pad: int) -> dict[str, NDArray[np.int64]]:
    """Token ids and mask, both ``[batch, source]``."""
    import numpy as np

    ids = np.full((len(sources), max(map(len, sources))), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, source in enumerate(sources):
        ids[row, : len(source)] = source
        mask[row, : len(source)] = 1
    return {"input_ids": ids, "attention_mask": mask}
