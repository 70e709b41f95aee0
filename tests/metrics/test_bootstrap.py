import numpy as np
import pytest

from edgelr.metrics.bootstrap import mean_interval

VALUES = np.random.default_rng(3).normal(loc=0.7, scale=0.2, size=400)


def test_the_mean_is_inside_its_interval() -> None:
    mean, low, high = mean_interval(VALUES)
    assert mean == pytest.approx(VALUES.mean())
    assert low < mean < high


def test_it_is_the_normal_interval_for_normal_values() -> None:
    _, low, high = mean_interval(VALUES)
    # 2000 resamples place a 2.5 % quantile within about 5 % of the half width.
    assert (high - low) / 2 == pytest.approx(1.96 * VALUES.std() / 20, rel=0.1)


def test_equal_values_leave_no_doubt() -> None:
    assert mean_interval(np.full(7, 0.25)) == (0.25, 0.25, 0.25)


def test_the_seed_decides() -> None:
    assert mean_interval(VALUES) == mean_interval(VALUES)
    assert mean_interval(VALUES, seed=1) != mean_interval(VALUES)


def test_a_lower_level_and_more_values_are_narrower() -> None:
    def width(values: np.ndarray, level: float = 0.95) -> float:
        _, low, high = mean_interval(values, level=level)
        return high - low

    assert width(VALUES, 0.5) < width(VALUES)
    assert width(np.tile(VALUES, 4)) < width(VALUES)


def test_memory_is_bounded_by_drawing_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelr.metrics.bootstrap._CHUNK_VALUES", 400 * 7)
    _, low, high = mean_interval(VALUES)
    assert low < VALUES.mean() < high


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval(np.array([]))
