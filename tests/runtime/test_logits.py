"""Each change against transformers' own logits processor, on random scores."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig
from transformers.generation import logits_process as theirs

from edgelr.runtime.generation import Generation
from edgelr.runtime.logits import changes_of, log_softmax

PLAIN = Generation(decoder_start_token_id=0, eos_token_id=(1, 2), pad_token_id=0, max_length=10)
VOCABULARY = 12


def scores(seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(3, VOCABULARY)).astype(np.float32) * 4


def history(length: int) -> Any:
    """Few tokens, so that they come again."""
    return np.random.default_rng(length).integers(0, 5, size=(3, length))


CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "repetition": ({"repetition_penalty": 1.3}, theirs.RepetitionPenaltyLogitsProcessor(1.3)),
    "reward": ({"repetition_penalty": 0.6}, theirs.RepetitionPenaltyLogitsProcessor(0.6)),
    "1-gram": ({"no_repeat_ngram_size": 1}, theirs.NoRepeatNGramLogitsProcessor(1)),
    "2-gram": ({"no_repeat_ngram_size": 2}, theirs.NoRepeatNGramLogitsProcessor(2)),
    "3-gram": ({"no_repeat_ngram_size": 3}, theirs.NoRepeatNGramLogitsProcessor(3)),
    "min-length": ({"min_length": 4}, theirs.MinLengthLogitsProcessor(4, [1, 2])),
    "forced-first": ({"forced_bos_token_id": 7}, theirs.ForcedBOSTokenLogitsProcessor(7)),
    "forced-last": ({"forced_eos_token_id": 2}, theirs.ForcedEOSTokenLogitsProcessor(10, 2)),
    "suppress": ({"suppress_tokens": (3, 5)}, theirs.SuppressTokensLogitsProcessor([3, 5])),
    "bad-words": ({"suppress_tokens": (3, 5)}, theirs.NoBadWordsLogitsProcessor([[3], [5], [1]], [1, 2])),
    "begin": ({"begin_suppress_tokens": (4,)}, theirs.SuppressTokensAtBeginLogitsProcessor([4], 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_change_is_that_of_transformers(case: str) -> None:
    settings, processor = CASES[case]
    (change,) = changes_of(replace(PLAIN, **settings), normalized=True)
    changed = 0
    for length in range(1, 10):
        given, tokens = scores(length), history(length)
        before = given.copy()
        expected = processor(torch.from_numpy(tokens), torch.from_numpy(before.copy())).numpy()
        change(given, tokens)
        np.testing.assert_array_equal(given, expected)
        changed += not np.array_equal(given, before)
    assert changed > 0


def test_a_first_token_is_suppressed_after_a_forced_one() -> None:
    *_, change = changes_of(
        replace(PLAIN, forced_bos_token_id=7, begin_suppress_tokens=(4,)), normalized=False
    )
    for length, banned in ((1, False), (2, True), (3, False)):
        given = scores(0)
        change(given, history(length))
        assert bool(np.isinf(given[:, 4]).all()) == banned


def test_log_softmax_is_torchs() -> None:
    given = scores(0) * 10
    given[0, 3:] = -np.inf
    expected = torch.log_softmax(torch.from_numpy(given), dim=1).numpy()
    np.testing.assert_allclose(log_softmax(given), expected, rtol=1e-6)  # sums of floats in another order
    assert log_softmax(given).dtype == np.float32


def test_beams_are_normalized_again_and_greedy_is_spared() -> None:
    generation = replace(PLAIN, suppress_tokens=(3,), renormalize_logits=True)
    given = log_softmax(scores(0))
    for change in changes_of(generation, normalized=True):
        change(given, history(1))
    np.testing.assert_allclose(np.exp(given).sum(axis=1), 1.0, rtol=1e-6)  # float sums
    assert len(changes_of(generation, normalized=False)) == 1


def test_no_setting_is_no_work() -> None:
    assert changes_of(PLAIN, normalized=True) == ()
    assert changes_of(replace(PLAIN, min_length=1), normalized=True) == (), "the start token is one"
    assert changes_of(replace(PLAIN, min_length=5, eos_token_id=()), normalized=True) == ()


def test_a_prompt_is_told_whatever_else_is_asked_for() -> None:
    """Also what may never be written, and where it would end."""
    generation = replace(
        PLAIN, prompt_ids=(3, 2), suppress_tokens=(3,), no_repeat_ngram_size=1, begin_suppress_tokens=(2,)
    )
    changes = changes_of(generation, normalized=False)
    for length, token in ((1, 3), (2, 2), (3, None)):
        given = scores(length)
        for change in changes:
            change(given, history(length))
        if token is None:
            assert (np.isfinite(given).sum(axis=1) > 1).all(), "the prompt is over"
            assert np.isneginf(given[:, 3]).all()
        else:
            assert (given.argmax(axis=1) == token).all()
            assert (np.isfinite(given).sum(axis=1) == 1).all()


@pytest.mark.parametrize("forced", [None, 7])
def test_a_first_token_is_suppressed_after_the_prompt(forced: int | None) -> None:
    """As the processor of transformers does when it is told where the prompt ends."""
    begin = 3 + (forced is not None)
    processor = theirs.SuppressTokensAtBeginLogitsProcessor([4], begin)
    settings = {"prompt_ids": (5, 6), "begin_suppress_tokens": (4,), "forced_bos_token_id": forced}
    changes = changes_of(replace(PLAIN, **settings), normalized=True)
    for length in (begin, begin + 1, begin + 2):
        given = scores(length)
        expected = processor(torch.from_numpy(history(length)), torch.from_numpy(given.copy())).numpy()
        for change in changes:
            change(given, history(length))
        np.testing.assert_array_equal(given, expected)


FIRST = 7  # the first of the tokens that are times


def timed_history(length: int) -> Any:
    """A prompt of one token after the start, then words below 5 and times from 7 on, in any order."""
    draw = np.random.default_rng(length)
    tokens = draw.choice([3, 4, 7, 8, 9, 10], size=(3, length))
    tokens[:, :2] = (0, 5)
    return tokens


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_times_are_told_as_in_transformers(most: int | None, scale: float) -> None:
    config = GenerationConfig(
        no_timestamps_token_id=FIRST - 1, eos_token_id=5, max_initial_timestamp_index=most
    )
    processor = theirs.WhisperTimeStampLogitsProcessor(config, begin_index=2)
    told = {"no_timestamps_token_id": FIRST - 1, "max_initial_timestamp_index": most, "prompt_ids": (5,)}
    change, prompt = changes_of(replace(PLAIN, eos_token_id=(5,), **told), normalized=True)
    for length in range(2, 30):
        given, tokens = scores(length) * np.float32(scale), timed_history(length)
        expected = processor(torch.from_numpy(tokens), torch.from_numpy(given.copy())).numpy()
        change(given, tokens)
        prompt(given, tokens)
        np.testing.assert_array_equal(given, expected)


def test_a_prompt_that_ends_in_no_timestamps_tells_none() -> None:
    settings = {"no_timestamps_token_id": 6, "prompt_ids": (5, 6)}
    assert len(changes_of(replace(PLAIN, **settings), normalized=True)) == 2, "the prompt alone"
