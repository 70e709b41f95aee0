import math
import random
from collections.abc import Callable

import pytest

from edgelr.compare import check
from edgelr.compare.check import check_latency
from edgelr.compare.protocol import QUANTITIES, Restart
from edgelr.compare.sides import open_side
from edgelr.compare.statistics import LOOKS
from edgelr.progress import Progress

PROFILES = {
    "base": {"MatMul": 5.0, "Add": 1.0, "Gelu": 1.0},
    "candidate": {"MatMul": 6.0, "Add": 1.01, "Gelu": 0.5, "Cast": 2.0},
}


@pytest.fixture
def compared(one_layer, cpu, monkeypatch) -> Callable:
    """Compare with restarts that are drawn, not measured: ``slowdown(number)`` is the log ratio of each."""

    def run(slowdown, *, spread=0.01, seconds=1e9, **limits):
        draw = random.Random(1)
        seeds = []

        def restart(base, candidate, device, inputs, *, seed):
            seeds.append(seed)
            noise = [draw.gauss(0, spread) for _ in range(2)]
            return Restart(
                candidate=dict.fromkeys(QUANTITIES, slowdown(len(seeds)) + noise[0]),
                twin=dict.fromkeys(QUANTITIES, noise[1]),
                p50_ms=(1.0, math.exp(slowdown(len(seeds)))),
                settled=True,
            )

        monkeypatch.setattr(check, "measure_restart", restart)
        monkeypatch.setattr(check, "profile_operators", lambda side, *_: PROFILES[side.name])
        base, candidate = open_side("base", one_layer(1)), open_side("candidate", one_layer(2))
        progress = Progress(quiet=True)
        asked = {"p50": 0.05, **limits}
        return check_latency(base, candidate, cpu, {}, progress, limits=asked, seconds=seconds), seeds

    return run


def test_equal_sides_pass_at_the_first_look(compared):
    found, seeds = compared(lambda number: 0.0)
    assert (found.outcome, found.restarts, found.confirmed) == ("pass", LOOKS[0], False)
    assert len(set(seeds)) == len(seeds)
    assert found.grown == ()
    assert found.rows[0].low < 1 < found.rows[0].high < 1.05


def test_a_regression_is_seen_twice(compared):
    found, seeds = compared(lambda number: 0.1)
    assert (found.outcome, found.confirmed) == ("regression", True)
    assert found.restarts == len(seeds) == 2 * LOOKS[0]
    assert len(set(seeds)) == len(seeds)
    assert found.rows[0].ratio == pytest.approx(1.105, abs=0.01)
    assert found.p50_ms == pytest.approx((1.0, 1.105), abs=0.01)
    assert found.grown == (("Cast", 0.0, 2.0), ("MatMul", 5.0, 6.0))


def test_what_is_not_seen_again_was_none(compared):
    """A neighbour came for the first eight restarts."""
    found, _ = compared(lambda number: 0.1 if number <= LOOKS[0] else 0.0)
    assert (found.outcome, found.confirmed) == ("pass", False)
    assert found.restarts == LOOKS[0]


def test_noise_is_no_answer(compared):
    found, seeds = compared(lambda number: 0.0, spread=0.5)
    assert (found.outcome, len(seeds)) == ("inconclusive", LOOKS[-1])
    assert found.more_seconds > 0


def test_the_time_ends_it(compared):
    found, seeds = compared(lambda number: 0.0, seconds=0)
    assert (found.outcome, len(seeds)) == ("inconclusive", 1)
    assert found.rows[0].low is None


def test_other_quantities_have_limits_of_their_own(compared, one_layer):
    found, _ = compared(lambda number: 0.03, memory=0.01)
    assert found.outcome == "regression"
    assert {row.quantity: row.outcome for row in found.rows} == {
        "p50": "pass",
        "p90": None,
        "load": None,
        "memory": "regression",
        "bytes": None,
    }
    bigger = one_layer(2).stat().st_size / one_layer(1).stat().st_size - 1
    for limit, outcome in ((bigger / 2, "regression"), (bigger * 2, "pass")):
        found, _ = compared(lambda number: 0.0, bytes=limit)
        assert (found.outcome, found.rows[-1].outcome) == (outcome, outcome)


def test_the_same_file_twice_is_said(one_layer, cpu, compared, monkeypatch):
    monkeypatch.setattr(
        check,
        "measure_restart",
        lambda *_, seed: Restart(
            candidate=dict.fromkeys(QUANTITIES, 0.0),
            twin=dict.fromkeys(QUANTITIES, 0.0),
            p50_ms=(1.0, 1.0),
            settled=False,
        ),
    )
    side = open_side("base", one_layer(1))
    found = check_latency(side, side, cpu, {}, Progress(quiet=True), limits={"p50": 0.05}, seconds=60)
    assert [note.split(":")[0].split(" in ")[0] for note in found.notes] == [
        "base and candidate are the same file",
        "times had not settled after warm-up",
    ]
