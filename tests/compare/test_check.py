import math
import random
from collections.abc import Callable

import pytest

from edgelr.compare import check, explain
from edgelr.compare.check import check_latency
from edgelr.compare.statistics import LOOKS
from edgelr.errors import ExportError
from edgelr.progress import Progress
from edgelr.timing.process import LostProcessError

PROFILES = {
    "base": {"MatMul": 5.0, "Add": 1.0, "Gelu": 1.0},
    "candidate": {"MatMul": 6.0, "Add": 1.01, "Gelu": 0.5, "Cast": 2.0},
}


@pytest.fixture
def compared(one_layer, setup_of, restart_of, monkeypatch) -> Callable:
    """Compare with restarts that are drawn, not measured: ``slowdown(number)`` is the log ratio of each."""

    def run(slowdown, *, spread=0.01, seconds=1e9, change=lambda number, found: found, **limits):
        draw = random.Random(1)
        seeds = []

        def restart(setup, *, seed):
            seeds.append(seed)
            noise = [draw.gauss(0, spread) for _ in range(2)]
            found = restart_of(slowdown(len(seeds)) + noise[0], noise[1])
            return change(len(seeds), found)

        monkeypatch.setattr(check, "measure_restart", restart)
        monkeypatch.setattr(check, "placement", lambda setup, side: {"layer.0 (MatMul)": f"{side.name} EP"})
        monkeypatch.setattr(explain, "profile_operators", lambda setup, side: PROFILES[side.name])
        setup = setup_of(one_layer(1), one_layer(2))
        progress = Progress(quiet=True)
        asked = {"p50": 0.05, **limits}
        return check_latency(setup, progress, limits=asked, seconds=seconds), seeds

    return run


def test_equal_sides_pass_at_the_first_look(compared):
    found, seeds = compared(lambda number: 0.0)
    assert (found.outcome, found.restarts, found.confirmed) == ("pass", LOOKS[0], False)
    assert len(set(seeds)) == len(seeds)
    assert found.grown == ()
    assert found.rows[0].low < 1 < found.rows[0].high < 1.05
    assert found.moved == (("layer.0 (MatMul)", "base EP", "candidate EP"),)
    assert len(found.times_ms[0]) == 50 * LOOKS[0]
    assert found.p90_bound_ms[0] == 1.0


def test_a_regression_is_seen_twice(compared):
    found, seeds = compared(lambda number: 0.1)
    assert (found.outcome, found.confirmed) == ("regression", True)
    assert found.restarts == len(seeds) == 2 * LOOKS[0]
    assert len(set(seeds)) == len(seeds)
    assert found.rows[0].ratio == pytest.approx(1.105, abs=0.01)
    assert found.p50_ms == pytest.approx((1.0, 1.105), abs=0.01)
    assert found.grown == (("Cast", 0.0, 2.0), ("MatMul", 5.0, 6.0))
    assert [len(each) for each in found.log_ratios] == [LOOKS[0]] * 2, "the round that confirms"


def test_a_process_that_is_slow_throughout_does_not_hide_a_regression(compared):
    """It was the base's, in the second round: one more look than usual, and the answer is the same."""
    found, _ = compared(lambda number: -0.3 if number == LOOKS[0] + 4 else 0.1)
    assert (found.outcome, found.confirmed) == ("regression", True)
    assert found.restarts == LOOKS[0] + LOOKS[1]
    assert found.rows[0].low > 1


def test_what_is_not_seen_again_was_none(compared):
    """A neighbour came for the first round; of the answer, only the second counts."""
    found, seeds = compared(lambda number: 0.1 if number <= LOOKS[0] else 0.0)
    assert (found.outcome, found.confirmed) == ("pass", False)
    assert found.restarts == len(seeds) == 2 * LOOKS[0]
    assert len(found.log_ratios[0]) == LOOKS[0]
    assert found.rows[0].ratio < 1.02


def test_what_is_not_p50_is_confirmed_too(compared):
    found, seeds = compared(lambda number: 0.03, memory=0.01)
    outcomes = {row.quantity: row.outcome for row in found.rows}
    assert (outcomes["p50"], outcomes["memory"], outcomes["load"]) == ("pass", "regression", None)
    assert (found.outcome, found.confirmed, len(seeds)) == ("regression", True, 2 * LOOKS[0])
    assert found.grown == (), "nothing became slower"
    found, _ = compared(lambda number: 0.03 if number <= LOOKS[0] else -0.03, memory=0.01)
    assert (found.outcome, found.confirmed) == ("pass", False)


def test_noise_is_no_answer(compared):
    found, seeds = compared(lambda number: 0.0, spread=0.5)
    assert (found.outcome, len(seeds)) == ("inconclusive", LOOKS[-1])
    assert found.more_seconds > 0


@pytest.mark.parametrize("slowdown", [0.0, 0.5])
def test_a_time_for_one_restart_is_no_answer(compared, slowdown):
    found, seeds = compared(lambda number: slowdown, seconds=0)
    assert (found.outcome, len(seeds)) == ("inconclusive", 1)
    assert found.rows[0].low is None
    assert found.more_seconds > 0


def test_bytes_have_a_limit_of_their_own(compared, one_layer):
    bigger = one_layer(2).stat().st_size / one_layer(1).stat().st_size - 1
    for limit, outcome in ((bigger / 2, "regression"), (bigger * 2, "pass")):
        found, seeds = compared(lambda number: 0.0, bytes=limit)
        assert (found.outcome, found.rows[-1].outcome) == (outcome, outcome)
        assert len(seeds) == LOOKS[0], "exact: nothing to confirm"


def test_a_p90_of_too_few_calls_is_no_answer(compared):
    def few(number, found):
        times = {side: (values[:2],) for side, (values,) in found.times_ms.items()}
        return type(found)(**{**vars(found), "times_ms": times})

    found, _ = compared(lambda number: 0.0, change=few, p90=0.1)
    assert found.p90_bound_ms == (None, None)
    assert {row.quantity: row.outcome for row in found.rows}["p90"] == "inconclusive"
    assert found.outcome == "inconclusive"
    found, _ = compared(lambda number: 0.0, p90=0.1)
    assert found.outcome == "pass"


def test_a_restart_that_is_lost_is_measured_again_once(compared):
    def lose(*numbers):
        def change(number, found):
            if number in numbers:
                raise LostProcessError("candidate (x) on cpu-1t: ended with signal SIGKILL")
            return found

        return change

    found, seeds = compared(lambda number: 0.0, change=lose(4))
    assert (found.outcome, found.restarts, len(seeds)) == ("pass", LOOKS[0], LOOKS[0] + 1)
    assert len(set(seeds)) == len(seeds)
    assert "a restart was lost and measured again: candidate (x)" in found.notes[-1]
    with pytest.raises(ExportError, match=r"candidate \(x\) .*SIGKILL(.|\n)*twice") as caught:
        compared(lambda number: 0.0, change=lose(4, 7))
    assert caught.value.exit_code == 7


def test_a_clock_that_jumps_ahead_ruins_neither_the_answer_nor_the_run(compared, monkeypatch):
    """The machine slept for an hour in a call of the fifth restart: time is over, what there is counts."""

    def sleep(number, found):
        if number != 5:
            return found
        clock[0] += 3600
        (block,) = found.times_ms["candidate"]
        times = {**found.times_ms, "candidate": ((3.6e6, *block[1:]),)}
        return type(found)(**{**vars(found), "times_ms": times})

    clock = [0.0]
    monkeypatch.setattr(check.time, "monotonic", lambda: clock[0])
    found, seeds = compared(lambda number: 0.0, seconds=60, change=sleep)
    assert (found.outcome, len(seeds)) == ("inconclusive", 5)
    assert found.p50_ms[1] == pytest.approx(1.0, abs=0.05)
    assert math.isfinite(found.rows[0].ratio)
