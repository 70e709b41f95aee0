"""Times within a window, as Whisper tells them between the words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgelr.runtime.generation import Generation

_STEP_S = 0.02  # from one token of a time to the next


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A part of a window that a model tells the times of.

    Attributes:
        start_s: Where it begins.
        end_s: Where it ends.
        text: What is said.
    """

    start_s: float
    end_s: float
    text: str


def with_times(generation: Generation, vocabulary: int) -> Generation | None:
    """The same settings, but times are told.

    Args:
        generation: Of a package.
        vocabulary: Size of the model's logits.

    Returns:
        None where the model has no tokens of times, or may not write them.
    """
    plain = generation.no_timestamps_token_id
    if plain is None or set(range(plain + 1, vocabulary)) <= set(generation.suppress_tokens):
        return None
    prompt = tuple(token for token in generation.prompt_ids if token != plain)
    return replace(generation, prompt_ids=prompt)


def words_of(tokens: Sequence[int], generation: Generation) -> list[int]:
    """Tokens without those of times.

    Args:
        tokens: Of a transcript.
        generation: The settings that it was written with.
    """
    return [token for token in tokens if _time_of(token, generation) is None]


def phrases_of(
    tokens: Sequence[int],
    generation: Generation,
    decode: Callable[[list[int]], str],
    start_s: float,
    end_s: float,
) -> tuple[Phrase, ...]:
    """The parts of a transcript between its times.

    Words before any time begin with the window, those after the last one end with it.

    Args:
        tokens: Of a window, without the prompt.
        generation: The settings that it was written with.
        decode: Tokens to text, without special ones.
        start_s: Where the window begins.
        end_s: Where it ends; no time is later.

    Returns:
        Those in which something is said.
    """
    phrases, words, since = list[Phrase](), list[int](), start_s
    for token in (*tokens, None):
        time = None if token is None else _time_of(token, generation)
        if token is not None and time is None:
            words.append(token)
            continue
        until = end_s if time is None else min(start_s + time, end_s)
        if text := decode(words).strip():
            phrases.append(Phrase(start_s=since, end_s=until, text=text))
        since, words = until, []
    return tuple(phrases)


def _time_of(token: int, generation: Generation) -> float | None:
    """Seconds that a token stands for; None for a word."""
    plain = generation.no_timestamps_token_id
    return None if plain is None or token <= plain else (token - plain - 1) * _STEP_S
