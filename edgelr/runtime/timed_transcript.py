"""How long the parts of a transcript take, with a fixed number of tokens: what a benchmark compares."""

from __future__ import annotations

import time
from dataclasses import replace

from edgelr.runtime.ctc import likeliest
from edgelr.runtime.decode import greedy_steps
from edgelr.runtime.graph import run_graph
from edgelr.runtime.long_audio import Pcm
from edgelr.runtime.transcribe import AnyTranscriber, CtcTranscriber, features_of


def timed_transcript(transcriber: AnyTranscriber, pcm: Pcm, new_tokens: int) -> tuple[float, float, float]:
    """Time a greedy transcript of a window with a fixed number of tokens, wherever it would end.

    Args:
        transcriber: The package.
        pcm: ``[samples]`` of 16 kHz, at most a window.
        new_tokens: How many tokens to generate after the prompt, at least 1; a model with CTC writes what it
            writes.

    Returns:
        Seconds for the features, for the encoder, and for the decoder.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on a graph, such as on a position it does not have.
    """
    if isinstance(transcriber, CtcTranscriber):
        return _timed_letters(transcriber, pcm)
    generation = transcriber.generation
    endless = replace(
        generation,
        eos_token_id=(),
        forced_eos_token_id=None,
        max_length=1 + len(generation.prompt_ids) + new_tokens,
    )
    start = time.perf_counter()
    features = features_of(transcriber, pcm)
    made = time.perf_counter()
    transcriber.decoder.read(features)
    read = time.perf_counter()
    for _ in greedy_steps(transcriber.decoder, 1, endless):
        pass
    return made - start, read - made, time.perf_counter() - read


def _timed_letters(transcriber: CtcTranscriber, pcm: Pcm) -> tuple[float, float, float]:
    start = time.perf_counter()
    values = features_of(transcriber, pcm)
    made = time.perf_counter()
    scores = run_graph(transcriber.model, values)["logits"][0]
    read = time.perf_counter()
    transcriber.letters.text(likeliest(scores, transcriber.letters.blank))
    return made - start, read - made, time.perf_counter() - read
