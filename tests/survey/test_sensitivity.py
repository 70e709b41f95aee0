"""Sensitivities from what was measured; measuring is in ``test_trial.py`` and ``test_onnx_graph.py``."""

import pytest

from edgelr.survey.sensitivity import probe_ranks, sensitivity


def test_points_rise_in_both_and_drop_something():
    found = sensitivity([(4.0, 3.0), (1.0, 2.0), (2.0, 1.0), (0.0, 5.0), (4.0, 9.0)])
    assert found.points == ((1.0, 2.0), (2.0, 2.0), (4.0, 3.0))
    assert sensitivity([]).points == sensitivity([(0.0, 1.0)]).points == ()


@pytest.mark.parametrize(
    ("full", "points", "expected"),
    [(100, 1, [50]), (100, 3, [25, 50, 75]), (2, 4, [1, 2]), (1, 1, [1]), (64, 4, [13, 26, 38, 51])],
)
def test_ranks_are_spread_evenly(full, points, expected):
    assert probe_ranks(full, points) == expected
