"""Perplexity and agreement, from what models make of texts."""

import numpy as np
import pytest

from edgelr.metrics import METRICS
from edgelr.metrics.bootstrap import difference, interval
from edgelr.metrics.text_generation import LENGTH, NOTHING, Readings, as_continuations, generation_scores


def readings(losses: list[float], tokens: list[int], written: list[list[int]]) -> Readings:
    continuations = as_continuations(written)
    return Readings(losses=np.array(losses), tokens=np.array(tokens), continuations=continuations)


DENSE = readings([4.0, 6.0], [4, 1], [[5] * LENGTH, [7, 8, 2]])


def test_perplexity_is_that_of_all_tokens_together() -> None:
    scores = generation_scores(DENSE, DENSE)
    assert tuple(scores) == METRICS["text-generation"]
    assert scores["perplexity"].value == pytest.approx(np.exp(10 / 5))
    uniform = readings([3 * np.log(50)], [3], [[1]])
    assert generation_scores(uniform, uniform)["perplexity"].value == pytest.approx(50)


def test_a_model_agrees_with_itself() -> None:
    scores = generation_scores(DENSE, DENSE)
    assert scores["agreement"].value == scores["agreed_tokens"].value == 1.0


def test_tokens_agree_up_to_the_first_that_differs() -> None:
    own = readings([4.0, 6.0], [4, 1], [[5] * 4 + [6] + [5] * (LENGTH - 5), [7, 8, 2]])
    scores = generation_scores(own, DENSE)
    assert scores["agreement"].value == 0.5
    assert scores["agreed_tokens"].value == pytest.approx((4 + 3) / (LENGTH + 3))


def test_a_text_that_goes_on_is_not_the_same() -> None:
    own = readings([4.0, 6.0], [4, 1], [[5] * LENGTH, [7, 8, 2, 9]])
    scores = generation_scores(own, DENSE)
    assert scores["agreement"].value == 0.5
    assert scores["agreed_tokens"].value == 1.0, "all that the dense model wrote"


def test_a_text_of_one_token_foretells_nothing() -> None:
    one = readings([0.0], [0], [[1]])
    assert generation_scores(one, one)["perplexity"].value == 1.0


def test_intervals_are_of_texts() -> None:
    other = readings([5.0, 6.0], [4, 1], [[5] * LENGTH, [7, 8, 2]])
    scores = [generation_scores(each, DENSE)["perplexity"] for each in (other, DENSE)]
    value, low, high = interval(scores[0])
    assert low <= value <= high
    assert difference(*scores)[0] > 0


def test_texts_must_be_the_same_ones() -> None:
    with pytest.raises(ValueError, match=r"continuations \[1, 16\] and \[2, 16\] do not fit"):
        generation_scores(readings([0.0], [1], [[1]]), DENSE)
    nothing = readings([], [], [])
    with pytest.raises(ValueError, match="do not fit"):
        generation_scores(nothing, nothing)


def test_continuations_are_filled_up() -> None:
    assert as_continuations([[3, 4], []]).tolist() == [[3, 4] + [NOTHING] * (LENGTH - 2), [NOTHING] * LENGTH]
