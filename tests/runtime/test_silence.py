"""Silence: on decoders whose scores are written down. Real graphs are in ``test_transcribe.py``."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgelr.runtime.decode import beam_search, greedy
from edgelr.runtime.generation import Generation
from edgelr.runtime.silence import Listening, sureness


class Scripted:
    """A decoder with these scores after these tokens; after others, a transcript ends."""

    def __init__(self, shares: dict[int, Any]) -> None:
        self._shares = shares

    def read(self, _: Any) -> None:
        pass

    def start(self, rows: int) -> None:
        pass

    def step(self, tokens: Any) -> Any:
        rows = [self._shares.get(int(token), shares(END, 0.95)) for token in tokens]
        return np.log(np.array(rows, np.float32))

    def reorder(self, rows: Any) -> None:
        pass


START, END, PROMPT, SILENCE, WORD = range(5)


def shares(token: int, share: float) -> Any:
    """A token's share, the same for each of 29 others."""
    found = np.full(30, (1 - share) / 29)
    found[token] = share
    return found


SETTINGS = Generation(
    decoder_start_token_id=START,
    eos_token_id=(END,),
    pad_token_id=END,
    max_length=6,
    prompt_ids=(PROMPT,),
    no_speech_token_id=SILENCE,
    suppress_tokens=(START, PROMPT, SILENCE),
    begin_suppress_tokens=(END,),
)


def written(scores: dict[int, Any], beams: int) -> tuple[list[int], bool]:
    """What a search writes, and whether nobody is taken to speak."""
    listening = Listening(Scripted(scores), SETTINGS)
    search = greedy(listening, 1, SETTINGS) if beams == 1 else beam_search(listening, 1, SETTINGS, beams)
    return search[0], listening.nobody_speaks(search[0])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("silence", "word", "speaks"),
    [
        (0.7, 0.9, True),  # sure of its word
        (0.7, 0.3, True),  # the mean of its logarithm and the end's is above -1
        (0.7, 0.05, False),
        (0.5, 0.05, True),  # it is not likely that nobody speaks
    ],
)
def test_only_doubtful_words_of_likely_silence_are_left_out(
    silence: float, word: float, speaks: bool, beams: int
) -> None:
    found, nobody = written({START: shares(SILENCE, silence), PROMPT: shares(WORD, word)}, beams)
    assert found == [PROMPT, WORD, END]
    assert nobody != speaks


@pytest.mark.parametrize("beams", [1, 3])
def test_a_transcript_that_was_cut_counts_as_far_as_it_goes(beams: int) -> None:
    loops = {START: shares(SILENCE, 0.7), PROMPT: shares(WORD, 0.99), WORD: shares(WORD, 0.99)}
    found, nobody = written(loops, beams)
    assert (len(found), nobody) == (5, False)


def test_what_may_not_be_written_does_not_count() -> None:
    """Of the tokens that are left, the word is likely; with silence among them it would not be."""
    doubtful = shares(WORD, 0.3)
    doubtful[SILENCE] = 3.0
    decoder = Scripted({PROMPT: doubtful})
    found = sureness(decoder, SETTINGS, [PROMPT, WORD, END])
    left = np.delete(doubtful, [START, END, PROMPT, SILENCE]).sum()
    ends = shares(END, 0.95)
    last = np.log(0.95 / np.delete(ends, [START, PROMPT, SILENCE]).sum())
    # Single precision.
    assert found == pytest.approx((np.log(0.3 / left) + last) / 2, rel=1e-5)


def test_a_package_without_such_a_token_never_asks() -> None:
    decoder = Listening(Scripted({}), replace(SETTINGS, no_speech_token_id=None))
    decoder.start(1)
    decoder.step(np.array([START]))
    assert not decoder.nobody_speaks([PROMPT, WORD])


def test_each_sound_is_judged_alone() -> None:
    shared = {START: shares(SILENCE, 0.7), PROMPT: shares(WORD, 0.05)}
    listening = Listening(Scripted(shared), SETTINGS)
    greedy(listening, 1, SETTINGS)
    assert listening.nobody_speaks([PROMPT, WORD, END])
    shared[START] = shares(SILENCE, 0.1)
    greedy(listening, 1, SETTINGS)
    assert not listening.nobody_speaks([PROMPT, WORD, END])
