import numpy as np
import pytest

from edgelr.metrics.arrays import alike, array_scores

ONES, ZEROS = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (ONES, ONES, 1.0),
        (ONES, 5 * ONES, 1.0),
        (ONES, -ONES, -1.0),
        (ZEROS, ZEROS, 1.0),
        (ZEROS, ONES, 0.0),
        (np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]), 0.75),
        (np.array([], np.int64), np.array([], np.int64), 1.0),
        (np.array([True, False]), np.array([True, True]), 0.5),
    ],
)
def test_how_alike_arrays_are(one: np.ndarray, other: np.ndarray, expected: float) -> None:
    assert alike(one, other) == pytest.approx(expected)


def test_one_output_has_one_cosine() -> None:
    own = [{"y": ONES}, {"y": ZEROS}]
    dense = [{"y": 3 * ONES}, {"y": ONES}]
    found = array_scores(own, dense)
    assert {name: each.value for name, each in found.items()} == {"cosine": 0.5, "difference": 1.5}


def test_several_outputs_have_each_their_own() -> None:
    own = [{"y": ONES, "label": np.array([1, 2])}]
    dense = [{"y": ONES, "label": np.array([1, 7])}]
    found = array_scores(own, dense, np.array([0.25]))
    values = {name: each.value for name, each in found.items()}
    assert values == pytest.approx(
        {"cosine": 0.75, "difference": 5, "metric": 0.25, "cosine of y": 1, "cosine of label": 0.5}
    )
    assert list(found)[:3] == ["cosine", "difference", "metric"]
