"""What a generation setting does to the scores of the next token, as transformers' logits processors do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgelr.runtime.generation import Generation, tells_times

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Change = Callable[[NDArray[np.float32], NDArray[np.int64]], None]


def changes_of(generation: Generation, *, normalized: bool) -> tuple[Change, ...]:
    """The changes that settings ask for, in the order of ``generate()``, without those that do nothing.

    Args:
        generation: The settings.
        normalized: The scores are log-probabilities and have to be that afterwards where
            ``renormalize_logits`` says so. Greedy choice takes logits: normalizing keeps their order.

    Returns:
        Functions of scores ``[rows, vocabulary]``, which they change, and of the tokens so far
        ``[rows, length]``, the start token included.
    """
    changes: list[Change] = []
    if generation.repetition_penalty != 1.0:
        changes.append(_repetition(generation.repetition_penalty))
    if generation.no_repeat_ngram_size > 0:
        changes.append(_no_repeat(generation.no_repeat_ngram_size))
    if generation.min_length > 1 and generation.eos_token_id:
        changes.append(_ban(generation.eos_token_id, lambda length: length < generation.min_length))
    if generation.forced_bos_token_id is not None:
        changes.append(_force(generation.forced_bos_token_id, 1))
    if generation.forced_eos_token_id is not None:
        changes.append(_force(generation.forced_eos_token_id, generation.max_length - 1))
    if generation.suppress_tokens:
        changes.append(_ban(generation.suppress_tokens, None))
    if generation.begin_suppress_tokens:
        forced = len(generation.prompt_ids) + (generation.forced_bos_token_id is not None)
        begin = 1 + forced
        changes.append(_ban(generation.begin_suppress_tokens, lambda length: length == begin))
    if tells_times(generation):
        changes.append(_times(generation))
    # After all others, none of which counts while a prompt is told.
    changes += [_force(token, length) for length, token in enumerate(generation.prompt_ids, 1)]
    if normalized and generation.renormalize_logits:
        changes.append(_renormalize)
    return tuple(changes)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities, in single precision as torch computes them.

    Args:
        logits: ``[rows, vocabulary]``; minus infinity is allowed.

    Returns:
        ``[rows, vocabulary]``.
    """
    import numpy as np

    shifted = logits - logits.max(axis=1, keepdims=True)
    normalized: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalized


def _ban(tokens: tuple[int, ...], when: Callable[[int], bool] | None) -> Change:
    import numpy as np

    banned = tokens[0] if len(tokens) == 1 else np.array(tokens, np.int64)  # a number is found sooner

    def ban(scores: NDArray[np.float32], history: NDArray[np.int64]) -> None:
        if when is None or when(history.shape[1]):
            scores[:, banned] = -np.inf

    return ban


def _force(token: int, length: int) -> Change:
    import numpy as np

    def force(scores: NDArray[np.float32], history: NDArray[np.int64]) -> None:
        if history.shape[1] == length:
            scores.fill(-np.inf)
            scores[:, token] = 0.0

    return force


def _repetition(penalty: float) -> Change:
    """Keskar et al. 2019, CTRL, section 4.1; scores may be negative, which the penalty multiplies."""
    import numpy as np

    factor = np.float32(penalty)

    def repeat_less(scores: NDArray[np.float32], history: NDArray[np.int64]) -> None:
        seen = np.take_along_axis(scores, history, axis=1)
        np.put_along_axis(scores, history, np.where(seen < 0, seen * factor, seen / factor), axis=1)

    return repeat_less


def _no_repeat(size: int) -> Change:
    import numpy as np

    def not_again(scores: NDArray[np.float32], history: NDArray[np.int64]) -> None:
        if history.shape[1] < size:
            return
        runs = np.lib.stride_tricks.sliding_window_view(history, size, axis=1)  # [rows, runs, size]
        last = history[:, history.shape[1] + 1 - size :]
        row, run = np.nonzero((runs[:, :, :-1] == last[:, None]).all(axis=2))
        scores[row, runs[row, run, -1]] = -np.inf

    return not_again


def _times(generation: Generation) -> Change:
    """Times come in pairs and never go back; one is told where times are likelier than any word.

    Source:
        Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (2022), section 2.3.
    """
    import numpy as np

    plain, begin = generation.no_timestamps_token_id, 1 + len(generation.prompt_ids)
    assert plain is not None, "it tells times"
    first, most = plain + 1, generation.max_initial_timestamp_index
    end = generation.eos_token_id[0] if generation.eos_token_id else 0

    def tell(scores: NDArray[np.float32], history: NDArray[np.int64]) -> None:
        scores[:, plain] = -np.inf
        for row, told in zip(scores, history[:, begin:].tolist(), strict=True):
            _pair(row, told, first, end)
        if history.shape[1] == begin:
            scores[:, :first] = -np.inf
            if most is not None:
                scores[:, first + most + 1 :] = -np.inf
        shares = np.exp(log_softmax(scores))
        scores[shares[:, first:].sum(axis=1) > shares[:, :first].max(axis=1), :first] = -np.inf

    return tell


def _pair(scores: NDArray[np.float32], told: list[int], first: int, end: int) -> None:
    """Rule out what may not follow the tokens ``told``; the tokens before ``end`` are text."""
    import numpy as np

    is_time = [token >= first for token in told[-2:]]
    opens = is_time == [False, True]  # after words: another time has to follow, or the end
    if opens:
        scores[:end] = -np.inf
    elif is_time and all(is_time):
        scores[first:] = -np.inf
    times = [token for token in told if token >= first]
    if times:
        scores[first : times[-1] + (not opens)] = -np.inf


def _renormalize(scores: NDArray[np.float32], history: NDArray[np.int64]) -> None:
    scores[:] = log_softmax(scores)
