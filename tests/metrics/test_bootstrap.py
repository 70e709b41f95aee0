import numpy as np
import pytest

from edgelr.metrics.bootstrap import difference, interval
from edgelr.metrics.scores import Scores, mean_scores

VALUES = np.random.default_rng(3).normal(loc=0.7, scale=0.2, size=400)
OTHERS = np.random.default_rng(4).normal(loc=0.69, scale=0.2, size=400)
MEAN = mean_scores(VALUES)


def ratio(sums: np.ndarray, examples: int) -> np.ndarray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def drawn_one_by_one(values: np.ndarray) -> tuple[float, float, float]:
    """The interval of a mean, by the book."""
    draw = np.random.default_rng(0)
    means = [values[row].mean() for row in draw.integers(0, len(values), (2000, len(values)))]
    low, high = np.quantile(means, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return float(values.mean()), float(low), float(high)


def test_the_mean_is_inside_its_interval() -> None:
    mean, low, high = interval(MEAN)
    assert mean == pytest.approx(VALUES.mean())
    assert low < mean < high


def test_intervals_of_means_stay_what_they_were() -> None:
    assert interval(MEAN) == drawn_one_by_one(VALUES)
    # Golden: verdicts of other days are held against those of today.
    expected = (0.7067872510311203, 0.6877870635343106, 0.7260094844499473)
    assert interval(MEAN) == pytest.approx(expected, rel=1e-12)


def test_it_is_the_normal_interval_for_normal_values() -> None:
    _, low, high = interval(MEAN)
    # 2000 resamples place a 2.5 % quantile within about 5 % of the half width.
    assert (high - low) / 2 == pytest.approx(1.96 * VALUES.std() / 20, rel=0.1)


def test_the_interval_of_a_ratio_is_that_of_its_linearization() -> None:
    weights = np.random.default_rng(5).integers(5, 15, 400)
    counts = np.stack([VALUES * weights, weights], axis=1)
    value, low, high = interval(Scores(statistics=counts, combine=ratio))
    assert value == pytest.approx((VALUES * weights).sum() / weights.sum())
    spread = ((VALUES - value) * weights).std() / weights.mean() / 20  # the delta method's standard error
    assert (high - low) / 2 == pytest.approx(1.96 * spread, rel=0.1)


def test_equal_values_leave_no_doubt() -> None:
    assert interval(mean_scores(np.full(7, 0.25))) == (0.25, 0.25, 0.25)


def test_the_seed_decides() -> None:
    assert interval(MEAN) == interval(MEAN)
    assert interval(MEAN, seed=1) != interval(MEAN)


def test_a_lower_level_and_more_values_are_narrower() -> None:
    def width(values: np.ndarray, level: float = 0.95) -> float:
        _, low, high = interval(mean_scores(values), level=level)
        return high - low

    assert width(VALUES, 0.5) < width(VALUES)
    assert width(np.tile(VALUES, 4)) < width(VALUES)


def test_memory_is_bounded_by_drawing_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelr.metrics.bootstrap._CHUNK_VALUES", 400 * 7)
    _, low, high = interval(MEAN)
    assert low < VALUES.mean() < high


# --- two models -------------------------------------------------------------------------------------


def test_a_difference_of_means_is_the_interval_of_the_differences() -> None:
    found = difference(MEAN, mean_scores(OTHERS))
    assert found == drawn_one_by_one(VALUES - OTHERS)
    expected = (0.009960198152073647, -0.016651847094263768, 0.03627819395815708)
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_metric_is_equal_to_itself_without_doubt() -> None:
    counts = Scores(statistics=np.stack([VALUES, np.full(400, 2.0)], axis=1), combine=ratio)
    assert difference(MEAN, MEAN) == (0.0, 0.0, 0.0)
    assert difference(counts, counts) == (0.0, 0.0, 0.0)


def test_what_both_have_in_common_cancels_out() -> None:
    weights = np.full(400, 2.0)
    better = Scores(statistics=np.stack([VALUES + OTHERS / 50, weights], axis=1), combine=ratio)
    worse = Scores(statistics=np.stack([VALUES, weights], axis=1), combine=ratio)
    value, low, high = difference(better, worse)
    _, own_low, own_high = interval(better)
    assert 0 < low < value < high
    assert high - low < (own_high - own_low) / 10
