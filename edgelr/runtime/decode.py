"""Greedy and beam search over any decoder that gives the scores of the next token.

Written anew from what ``generate()`` of transformers 5.23 does; results are equal token for token. Only
between candidates of exactly equal scores may they differ: here the lower beam and token wins, while torch
does not specify the order of equal elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from edgelr.runtime.generation import Generation
from edgelr.runtime.logits import changes_of, log_softmax

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NEVER = (
    -1.0e9
)  # the score that rules a beam out in transformers; sums with it are compared, so it is not -inf


class Decoder(Protocol):
    """A decoder with a cache: rows are sequences that grow by one token a step."""

    def start(self, rows: int) -> None:
        """Begin anew with one empty row for each of ``rows`` source texts."""

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append a token to every row; ``tokens`` is ``[rows]``, or ``[rows, tokens]`` of a prompt.

        Returns:
            Logits of the next token, ``[rows, vocabulary]``; the caller may change them.
        """

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows of the last step; a row may come several times, or not at all."""


class SourceDecoder(Decoder, Protocol):
    """A decoder that reads the sources itself."""

    def read(self, source: Mapping[str, NDArray[Any]]) -> None:
        """Run the encoder on a batch, to be decoded next; ``source`` is what it reads, by name."""


def greedy(
    decoder: Decoder, batch: int, generation: Generation, max_tokens: int | None = None
) -> list[list[int]]:
    """The most likely token at every step.

    Args:
        decoder: Ready to start.
        batch: Source texts that it holds.
        generation: The settings.
        max_tokens: Most tokens to generate, if that is fewer than the settings allow.

    Returns:
        For each source text its tokens, without the start token, up to and with the token that ended it.
    """
    found: list[list[int]] = [[] for _ in range(batch)]
    ends = frozenset(generation.eos_token_id)
    running = list(range(batch))
    for tokens in greedy_steps(decoder, batch, shortened(generation, max_tokens)):
        for row in running:
            found[row].append(int(tokens[row]))
        if not ends.isdisjoint(tokens.tolist()):
            running = [row for row in running if found[row][-1] not in ends]
    return found


def greedy_steps(
    decoder: Decoder, batch: int, generation: Generation, prompt: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.int64]]:
    """The tokens of every step, ``[batch]``, as soon as they are known; ended rows go on with pad tokens.

    Args:
        decoder: Ready to start.
        batch: Source texts that it holds.
        generation: The settings; a prompt is part of every length in them.
        prompt: What every row begins with, ``[batch, tokens]``; the start token when None.
    """
    import numpy as np

    changes = changes_of(generation, normalized=False)
    ends = frozenset(generation.eos_token_id)
    history = np.empty((batch, generation.max_length), np.int64)
    tokens = np.full(batch, generation.decoder_start_token_id, np.int64) if prompt is None else prompt
    told = 1 if prompt is None else prompt.shape[1]
    history[:, :told] = tokens.reshape(batch, told)
    ended = [False] * batch
    decoder.start(batch)
    for length in range(told, generation.max_length):
        scores = decoder.step(tokens)
        for change in changes:
            change(scores, history[:, :length])
        tokens = scores.argmax(axis=1)
        if batch > 1:
            tokens[ended] = generation.pad_token_id
        history[:, length] = tokens
        yield tokens
        # Lists: of a few numbers numpy would take longer to start than to compare.
        ended = [before or token in ends for before, token in zip(ended, tokens.tolist(), strict=True)]
        if all(ended):
            return


def shortened(generation: Generation, max_tokens: int | None) -> Generation:
    """The settings with at most ``max_tokens`` generated tokens; the same when None."""
    if max_tokens is None or max_tokens >= generation.max_length - 1:
        return generation
    return replace(generation, max_length=max_tokens + 1)


def beam_search(
    decoder: Decoder, batch: int, generation: Generation, beams: int, max_tokens: int | None = None
) -> list[list[int]]:
    """The best of several sequences that grow side by side.

    Args:
        decoder: Ready to start.
        batch: Source texts that it holds.
        generation: The settings.
        beams: Sequences a text; 1 is a search, too, but ``generate()`` is greedy then.
        max_tokens: Most tokens to generate, if that is fewer than the settings allow.

    Returns:
        For each source text its tokens, without the start token, up to and with the token that ended it.
    """
    import numpy as np

    generation = shortened(generation, max_tokens)
    changes = changes_of(generation, normalized=True)
    search = _Search.begin(batch, beams, generation)
    tokens = np.full(batch, generation.decoder_start_token_id, np.int64)
    decoder.start(batch)
    for length in range(1, generation.max_length):
        scores = log_softmax(decoder.step(tokens))
        # Beams differ only from the second token on: the first step is run once a text.
        scores = scores.repeat(beams, axis=0) if length == 1 else scores
        for change in changes:
            change(scores, search.running[:, :, :length].reshape(-1, length))
        rows = search.advance(scores, length)
        if search.is_over(length + 1):
            break
        decoder.reorder(rows // beams if length == 1 else rows)
        tokens = search.running[:, :, length].reshape(-1)
    return search.best()


@dataclass
class _Search:
    """Beams of a batch: those that run, and the best that are finished.

    Attributes:
        generation: The settings.
        running: Tokens of the running beams, ``[batch, beams, max_length]``, filled up to the current length.
        scores: Their summed log-probabilities, ``[batch, beams]``, best first.
        finished: Tokens of the best finished beams, ``[batch, beams, max_length]``.
        finished_scores: Their scores with the length penalty, ``[batch, beams]``, best first.
        is_finished: Whether the place holds one, ``[batch, beams]``.
        lengths: How many of their tokens count, ``[batch, beams]``.
        can_improve: Whether a running beam may still become the best, ``[batch]``; once not, never again.
        stuck: Every candidate of the last step ended its sequence: there is nothing to go on with.
    """

    generation: Generation
    running: NDArray[np.int64]
    scores: NDArray[np.float32]
    finished: NDArray[np.int64]
    finished_scores: NDArray[np.float32]
    is_finished: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    can_improve: NDArray[np.bool_]
    stuck: bool = False

    @classmethod
    def begin(cls, batch: int, beams: int, generation: Generation) -> _Search:
        import numpy as np

        shape = (batch, beams)
        scores = np.full(shape, _NEVER, np.float32)
        scores[:, 0] = 0.0  # the beams are equal at first: all but one are ruled out
        return cls(
            generation=generation,
            running=np.full((*shape, generation.max_length), generation.decoder_start_token_id, np.int64),
            scores=scores,
            finished=np.zeros((*shape, generation.max_length), np.int64),
            finished_scores=np.full(shape, _NEVER, np.float32),
            is_finished=np.zeros(shape, np.bool_),
            lengths=np.ones(shape, np.int64),
            can_improve=np.ones(batch, np.bool_),
        )

    def advance(self, scores: NDArray[np.float32], length: int) -> NDArray[np.int64]:
        """Append the best tokens.

        Args:
            scores: Log-probabilities of the next token, ``[batch * beams, vocabulary]``.
            length: Tokens so far.

        Returns:
            The row of ``scores`` that each new running beam continues, ``[batch * beams]``.
        """
        import numpy as np

        batch, beams = self.scores.shape
        vocabulary = scores.shape[1]
        total = scores.reshape(batch, beams, vocabulary) + self.scores[:, :, None]
        # So many that as many as there are beams can go on, even if all the others ended.
        wanted = max(2, 1 + len(self.generation.eos_token_id)) * beams
        places, summed = _largest(total.reshape(batch, -1), wanted)
        beam, token = places // vocabulary, places % vocabulary
        ends = np.isin(token, self.generation.eos_token_id) | (length + 1 >= self.generation.max_length)
        self.stuck = bool(ends.all())
        candidates = np.take_along_axis(self.running, beam[:, :, None], axis=1)
        candidates[:, :, length] = token
        still = summed + ends.astype(np.float32) * np.float32(_NEVER)
        chosen = _best_first(still)[:, :beams]
        self.running = np.take_along_axis(candidates, chosen[:, :, None], axis=1)
        self.scores = np.take_along_axis(still, chosen, axis=1)
        self._collect(candidates, summed, ends, length)
        rows: NDArray[np.int64] = np.take_along_axis(beam, chosen, axis=1) + np.arange(batch)[:, None] * beams
        return rows.reshape(-1)

    def _collect(
        self, candidates: NDArray[np.int64], summed: NDArray[np.float32], ends: NDArray[np.bool_], length: int
    ) -> None:
        """Keep the best finished beams of those that were and those that just ended among the first."""
        import numpy as np

        beams = self.scores.shape[1]
        ended = ends & (np.arange(ends.shape[1]) < beams)
        scores = summed / np.float32(self._counted(length) ** self.generation.length_penalty)
        full = self.is_finished.all(axis=1, keepdims=True) & (self.generation.early_stopping is True)
        for ruled_out in (full, ~self.can_improve[:, None], ~ended):
            scores = scores + ruled_out.astype(np.float32) * np.float32(_NEVER)
        merged = np.concatenate((self.finished_scores, scores), axis=1)
        best = _best_first(merged)[:, :beams]
        self.finished_scores = np.take_along_axis(merged, best, axis=1)
        self.is_finished = np.take_along_axis(np.concatenate((self.is_finished, ended), axis=1), best, axis=1)
        lengths = np.concatenate((self.lengths, np.full_like(ended, length + 1, np.int64)), axis=1)
        self.lengths = np.take_along_axis(lengths, best, axis=1)
        tokens = np.concatenate((self.finished, candidates), axis=1)
        self.finished = np.take_along_axis(tokens, best[:, :, None], axis=1)

    def is_over(self, length: int) -> bool:
        """Whether no text can be improved any more, judged at this length."""
        import numpy as np

        early, penalty = self.generation.early_stopping, self.generation.length_penalty
        # The length that the best running beam is scored with in advance: as it is, or the longest possible.
        at = self.generation.max_length if early == "never" and penalty > 0 else length
        best_possible = self.scores[:, 0] / np.float32(self._counted(at - 1) ** penalty)
        worst = np.where(self.is_finished, self.finished_scores.min(axis=1, keepdims=True), _NEVER)
        self.can_improve &= (best_possible[:, None] > worst).any(axis=1)
        full = early is True and bool(self.is_finished.all())
        return not self.can_improve.any() or full or self.stuck

    def _counted(self, tokens: int) -> int:
        """The length that counts for the penalty: tokens without those of the prompt."""
        return max(1, tokens - len(self.generation.prompt_ids))

    def best(self) -> list[list[int]]:
        """The best finished beam of every text, without the start token."""
        best = zip(self.finished[:, 0].tolist(), self.lengths[:, 0].tolist(), strict=True)
        return [tokens[1:length] for tokens, length in best]


def _largest(values: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places and values of the largest of each row, best first; of equal ones the first.

    Args:
        values: ``[rows, n]``; changed.
        count: How many.

    Returns:
        Two arrays ``[rows, min(count, n)]``.
    """
    import numpy as np

    rows = np.arange(len(values))
    count = min(count, values.shape[1])
    places = np.empty((len(values), count), np.int64)
    found = np.empty((len(values), count), np.float32)
    # A few passes of argmax are several times faster here than a partition, and their order is certain.
    for number in range(count):
        places[:, number] = values.argmax(axis=1)
        found[:, number] = values[rows, places[:, number]]
        values[rows, places[:, number]] = -np.inf
    return places, found


def _best_first(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    return (-scores).argsort(axis=1, kind="stable")
