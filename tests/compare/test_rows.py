import math
from dataclasses import replace

import pytest

from edgelr.compare.rows import accuracy, exact_rows, timed_quantities, timed_row, weigh
from edgelr.compare.sides import open_side


@pytest.fixture
def sides(make_package):
    return tuple(open_side(name, make_package(name).folder) for name in ("base", "candidate"))


def with_accuracy(side, **accuracy):
    return replace(side, package=replace(side.package, accuracy=accuracy))


def test_what_is_timed_depends_on_the_task(sides, dense_translator, dense_speech):
    every = ("p50", "p90", "first_call", "load", "memory")
    assert timed_quantities(sides[0]) == every
    translation = open_side("base", dense_translator.folder)
    assert timed_quantities(translation) == (*every, "first_token", "encoder", "decoder")
    speech = open_side("base", dense_speech.folder)
    assert timed_quantities(speech) == (*every, "features", "encoder", "decoder")


def test_a_row_is_a_ratio_with_its_interval(restart_of):
    restarts = [restart_of(math.log(1.2) + 0.001 * number, 0.0) for number in range(9)]
    row = timed_row("p50", restarts, 0.05)
    assert (row.outcome, row.bound) == ("regression", 1.05)
    assert 1.2 <= row.low < row.ratio < row.high <= 1.22
    assert weigh(restarts, "p50", 0.3).outcome == "pass"
    unlimited = timed_row("p50", restarts[:3], None)
    assert (unlimited.outcome, unlimited.low, unlimited.bound) == (None, None, None)


def test_accuracy_is_what_both_packages_say(sides):
    base = with_accuracy(sides[0], cosine=0.9, bleu=30.0)
    candidate = with_accuracy(sides[1], cosine=0.8)
    assert accuracy(base, candidate) == {"cosine": (0.9, 0.8)}
    rows = {row.quantity: row for row in exact_rows(base, candidate, {})}
    assert set(rows) == {"bytes", "cosine"}
    assert rows["cosine"].ratio == pytest.approx(0.8 / 0.9)
    assert rows["cosine"].outcome is rows["cosine"].noise is None


@pytest.mark.parametrize(
    ("metric", "before", "after", "outcome"),
    [
        ("cosine", 0.90, 0.88, "pass"),
        ("cosine", 0.90, 0.84, "regression"),
        ("cosine", 0.90, 0.99, "pass"),  # better is never too much
        ("wer", 5.0, 5.2, "pass"),
        ("wer", 5.0, 5.5, "regression"),  # an error: more is worse
        ("wer", 5.0, 1.0, "pass"),
        ("wer", 0.0, 0.0, "pass"),
        ("wer", 0.0, 0.1, "regression"),
    ],
)
def test_scores_may_not_fall_and_errors_may_not_rise(sides, metric, before, after, outcome):
    pair = with_accuracy(sides[0], **{metric: before}), with_accuracy(sides[1], **{metric: after})
    row = exact_rows(*pair, {metric: 0.05})[-1]
    assert (row.quantity, row.outcome) == (metric, outcome)
    assert row.bound == (0.95 if metric == "cosine" else 1.05)
