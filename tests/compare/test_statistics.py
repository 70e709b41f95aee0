import math
import random

import pytest

from edgelr.compare.statistics import (
    ALPHA,
    ALPHA_PER_LOOK,
    ALPHA_PER_LOOK_AGAIN,
    LOOKS,
    LOOKS_AGAIN,
    decide,
    estimate,
    upper_bound,
)


def test_the_pseudo_median_of_known_numbers():
    found = estimate([0.1, 0.2, 0.6])
    assert found.middle == pytest.approx((0.2 + 0.35) / 2)  # of .1 .15 .2 .35 .4 .6: the two in the middle
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.restarts == 3


def test_the_interval_is_that_of_the_exact_signed_rank_test():
    """Hollander and Wolfe's table: for 10 pairs P(W <= 10) = 0.0420 and P(W <= 11) = 0.0527."""
    values = [float(number) for number in range(10)]
    averages = sorted((one + other) / 2 for i, one in enumerate(values) for other in values[i:])
    found = estimate(values, alpha=0.05)
    assert (found.low, found.high) == (averages[10], averages[-11])
    exact = estimate(values, alpha=0.042)
    assert (exact.low, exact.high) == (averages[10], averages[-11])
    narrower = estimate(values, alpha=0.0419)
    assert (narrower.low, narrower.high) == (averages[9], averages[-10])


def test_a_ruined_restart_hardly_moves_it():
    values = [0.01 * (number % 3 - 1) for number in range(20)]
    spoiled = [*values[:-1], 3.0]
    assert abs(estimate(spoiled).middle - estimate(values).middle) < 0.005


def test_no_restart_is_refused():
    with pytest.raises(ValueError, match="at least one restart"):
        estimate([])


def noise(count: int, spread: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(0, spread) for _ in range(count)]


@pytest.mark.parametrize(
    ("shift", "spread", "outcome"),
    [
        (0.0, 0.01, "pass"),
        (0.10, 0.01, "regression"),
        (-0.10, 0.01, "pass"),
        (0.05, 0.01, "inconclusive"),  # right at the tolerance
        (0.0, 0.2, "inconclusive"),  # far too noisy
        (0.08, 0.2, "inconclusive"),
    ],
)
def test_the_three_outcomes(shift, spread, outcome):
    values = [value + shift for value in noise(18, spread)]
    found = decide(values, noise(18, spread, 1), 0.05)
    assert found.outcome == outcome
    assert (found.more_restarts == 0) == (outcome != "inconclusive")


def test_a_slowdown_within_this_machines_own_noise_is_none():
    """Every restart of the twin differs by a tenth: a tenth is no regression here, however significant."""
    values = [0.09 + value for value in noise(18, 0.002)]
    twin = [0.1 + value for value in noise(18, 0.002, 1)]
    found = decide(values, twin, 0.05)
    assert found.outcome == "inconclusive"
    assert found.limit == found.noise > 0.1


def test_more_noise_needs_more_restarts():
    needed = [
        decide(noise(12, spread), noise(12, spread, 1), 0.05).more_restarts for spread in (0.1, 0.2, 0.4)
    ]
    assert 0 < needed[0] < needed[1] < needed[2]


def outcome_of(
    draw: random.Random, shift: float, sample, looks=LOOKS[:4], alpha: float = ALPHA_PER_LOOK
) -> str:
    """Look after each of so many restarts, stop at the first answer."""
    values: list[float] = []
    twins: list[float] = []
    found = "inconclusive"
    for look in looks:
        while len(values) < look:
            values.append(shift + sample(draw))
            twins.append(sample(draw))
        found = decide(values, twins, 0.05, alpha).outcome
        if found != "inconclusive":
            break
    return found


NOISES = {
    "normal": lambda draw: draw.gauss(0, 0.02),
    "bimodal": lambda draw: draw.choice((-0.02, 0.02)) + draw.gauss(0, 0.003),
    "heavy tails": lambda draw: draw.gauss(0, 0.01) * (20 if draw.random() < 0.1 else 1),
}


@pytest.mark.parametrize("name", NOISES)
def test_false_alarms_are_rare_and_slowdowns_are_found(name):
    draw = random.Random(5)
    alike = [outcome_of(draw, 0.0, NOISES[name]) for _ in range(300)]
    assert alike.count("regression") <= ALPHA * len(alike)
    slower = [outcome_of(draw, math.log(1.10), NOISES[name]) for _ in range(300)]
    assert slower.count("regression") >= 0.95 * len(slower)
    assert slower.count("pass") <= ALPHA * len(slower)


@pytest.mark.parametrize("name", NOISES)
def test_the_second_round_errs_as_rarely_as_it_says(name):
    """With the tolerance out of the way, so that it is the significance alone that keeps it from erring."""
    draw = random.Random(6)
    alone = [
        outcome_of(
            draw, math.log(1.05), lambda draw: NOISES[name](draw) / 50, LOOKS_AGAIN, ALPHA_PER_LOOK_AGAIN
        )
        for _ in range(300)
    ]
    assert alone.count("pass") <= len(LOOKS_AGAIN) * ALPHA_PER_LOOK_AGAIN * len(alone)


def test_the_second_round_forgives_one_process_and_the_first_does_not():
    values = [0.05 + value for value in noise(11, 0.005)] + [-0.3]
    assert decide(values, noise(12, 0.005, 1), 0.01).outcome == "inconclusive"
    assert decide(values, noise(12, 0.005, 1), 0.01, ALPHA_PER_LOOK_AGAIN).outcome == "regression"


def test_a_percentile_is_bounded_by_the_binomial_distribution():
    """0.9 ** 44 < 0.01 < 0.9 ** 43: with 44 calls the longest is above the percentile, sure to 99 %."""
    assert upper_bound([1.0] * 43) is None
    assert upper_bound([float(number) for number in range(44)]) == 43
    # With 64 calls one may be above: 0.9 ** 64 + 64 * 0.1 * 0.9 ** 63 = 0.0096, as in MLPerf's own minimum.
    assert upper_bound([float(number) for number in range(63)]) == 62
    assert upper_bound([float(number) for number in range(64)]) == 62
    assert upper_bound([]) is None


def test_the_bound_holds_as_often_as_it_says():
    draw = random.Random(3)
    bounds = [upper_bound([draw.random() for _ in range(100)]) for _ in range(1000)]
    assert sum(bound < 0.9 for bound in bounds) <= 20
    many = upper_bound([draw.random() for _ in range(20_000)])
    assert 0.9 < many < 0.91
