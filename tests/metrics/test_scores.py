import numpy as np
import pytest

from edgelr.metrics.scores import Scores, difference_scores, mean_scores

VALUES = np.random.default_rng(3).normal(loc=0.7, scale=0.2, size=400)
DRAWS = np.random.default_rng(5).integers(0, 400, (6, 400))

# Precision: a ratio of two counts, which is no mean of the examples' ratios.
COUNTS = np.array([[1.0, 1.0], [1.0, 4.0], [0.0, 5.0]])


def ratio(sums: np.ndarray, examples: int) -> np.ndarray:
    return np.asarray(sums[..., 0] / sums[..., 1])


PRECISION = Scores(statistics=COUNTS, combine=ratio)


def test_a_mean_is_the_mean_to_the_last_bit() -> None:
    scores = mean_scores(VALUES)
    assert (scores.value, scores.examples) == (float(VALUES.mean()), 400)
    assert scores.resampled(DRAWS).tolist() == VALUES[DRAWS].mean(axis=1).tolist()


def test_a_metric_of_sums_is_of_the_sums_of_its_examples() -> None:
    assert PRECISION.value == 2 / 10
    assert PRECISION.resampled(np.array([[0, 0, 1], [2, 2, 2]])).tolist() == [3 / 6, 0.0]


def test_the_number_of_examples_is_known_where_sums_are_combined() -> None:
    scores = Scores(statistics=COUNTS, combine=lambda sums, examples: sums[..., 1] / examples)
    assert scores.value == 10 / 3
    assert scores.resampled(np.array([[0, 0]])).tolist() == [1.0]


def test_a_difference_of_means_is_the_mean_of_the_differences() -> None:
    other = np.random.default_rng(4).normal(loc=0.69, scale=0.2, size=400)
    found = difference_scores(mean_scores(VALUES), mean_scores(other))
    assert found.value == (VALUES - other).mean()
    assert found.resampled(DRAWS).tolist() == (VALUES - other)[DRAWS].mean(axis=1).tolist()


def test_any_other_difference_is_of_the_same_examples_of_both() -> None:
    other = Scores(statistics=COUNTS[::-1].copy(), combine=ratio)
    draws = np.array([[0, 0, 1], [2, 1, 0]])
    found = difference_scores(PRECISION, other)
    assert found.examples == 3
    assert found.value == 0.0
    assert found.resampled(draws).tolist() == (PRECISION.resampled(draws) - other.resampled(draws)).tolist()


def test_a_mean_may_be_held_against_another_metric_of_sums() -> None:
    found = difference_scores(mean_scores(np.array([0.5, 0.5, 0.5])), PRECISION)
    assert found.value == pytest.approx(0.3)


def test_other_examples_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="400 and 3 examples are no pairs"):
        difference_scores(mean_scores(VALUES), PRECISION)


@pytest.mark.parametrize("statistics", [np.empty((0, 1)), np.empty((3, 0)), np.ones(3)])
def test_a_metric_of_nothing_is_refused(statistics: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no examples"):
        Scores(statistics=statistics, combine=ratio)
    with pytest.raises(ValueError, match="no examples"):
        mean_scores(np.array([]))
