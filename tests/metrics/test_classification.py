import numpy as np
import pytest

from edgelr.metrics import METRICS
from edgelr.metrics.bootstrap import interval
from edgelr.metrics.classification import classification_scores


def test_figures_by_hand() -> None:
    """Chosen 0 0 1 1, right 0 1 1 1: F1 of 0 is 2/3, of 1 is 4/5; 2 never occurs."""
    own = np.eye(3)[[0, 0, 1, 1]]
    dense = np.eye(3)[[0, 1, 1, 2]]
    found = classification_scores(own, dense, np.array([0, 1, 1, 1]))
    assert tuple(found) == METRICS["text-classification"]
    assert found["accuracy"].value == 0.75
    assert found["f1"].value == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["agreement"].value == 0.5


def test_a_label_that_is_chosen_and_never_right_counts() -> None:
    found = classification_scores(np.eye(2)[[0, 1]], np.eye(2)[[0, 1]], np.array([0, 0]))
    assert found["f1"].value == pytest.approx((2 / 3 + 0) / 2)


def test_an_interval_can_be_drawn() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 60)
    own = np.eye(3)[np.where(draw.random(60) < 0.8, labels, 0)]
    value, low, high = interval(classification_scores(own, own, labels)["f1"])
    assert 0.5 < low < value < high < 1
