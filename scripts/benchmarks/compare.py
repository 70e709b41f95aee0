"""How often a latency check is wrong: simulated noise, known slowdowns, this project's rule and three others.

    python scripts/benchmarks/compare.py               # a few minutes on one core

Every trial simulates the calls of one check on one machine: a time for each call, of a base of 10 ms and of a
candidate that is slower by a known share, under one kind of noise. The rules see the same kind of noise, each
with the calls that it would make in the same time:

* edgelr: restarts of base, candidate and twin in interleaved blocks, decided on after each of the looks of
  ``edgelr.compare.statistics``, at most 18 restarts, and a regression only when a second round finds it
  again. The tolerance is 2.5 %, half of the smallest slowdown that is asked for.
* a threshold: one process a side, one after the other, 100 calls each; slower when the median grew by 10 %.
* asv's: the same calls; slower when the medians' 99 % intervals do not overlap and the ratio is over 1.1.
* google/benchmark's: the same calls; slower when the U test over calls has p < 0.05.

Kinds of noise, all with 0.7 % between processes: log-normal (2 % between calls), bimodal (every process is
one of two that differ by 3 %), drifting (a slow wave of 10 % over the job), autocorrelated (a random walk
that returns, 3 %), outliers (a call in ten takes up to three times as long), neighbour (another job comes and
goes and takes 30 %).

Prints tables, writes JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from edgelr.compare.statistics import LOOKS, decide

Times = NDArray[np.float64]
Noise = Callable[[np.random.Generator, Times], Times]
"""(random numbers, moments of the calls in seconds) -> log of what each call's time is multiplied by"""

CALL_S = 0.01
BLOCK_CALLS = 10
BLOCKS = 6
START_S = 1.5  # of the processes of a restart, before anything is timed
MOST = 18
TOLERANCE = 0.025
BETWEEN_PROCESSES = 0.007
SLOWDOWNS = (0.0, 0.05, 0.10)


def lognormal(random: np.random.Generator, at: Times) -> Times:
    """Independent calls."""
    return random.normal(0, 0.02, len(at))


def drifting(random: np.random.Generator, at: Times) -> Times:
    """The clock goes down and up again over minutes."""
    wave = np.sin(2 * np.pi * (at / random.uniform(30, 120) + random.uniform()))
    return lognormal(random, at) / 2 + 0.1 * wave


def autocorrelated(random: np.random.Generator, at: Times) -> Times:
    """A random walk that returns, with a memory of half a second."""
    steps = np.exp(-np.diff(at, prepend=at[0]) / 0.5)
    walk = np.empty(len(at))
    last = random.normal(0, 0.03)
    for place, kept in enumerate(steps):
        last = kept * last + math.sqrt(max(0.0, 1 - kept**2)) * random.normal(0, 0.03)
        walk[place] = last
    return walk + random.normal(0, 0.005, len(at))


def outliers(random: np.random.Generator, at: Times) -> Times:
    """A call in ten is interrupted."""
    longer = random.uniform(0, math.log(3), len(at))
    return lognormal(random, at) / 2 + np.where(random.random(len(at)) < 0.1, longer, 0.0)


def neighbour(random: np.random.Generator, at: Times) -> Times:
    """Another job, on for seconds and off for seconds."""
    edges = np.cumsum(random.exponential(6.0, 200)) - random.uniform(0, 6)
    busy = np.searchsorted(edges, at) % 2
    return lognormal(random, at) / 2 + 0.3 * busy


NOISES: dict[str, Noise] = {
    "log-normal": lognormal,
    "bimodal": lognormal,
    "drifting": drifting,
    "autocorrelated": autocorrelated,
    "outliers": outliers,
    "neighbour": neighbour,
}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--trials", default=2000, show_default=True, help="Without a slowdown; a quarter with one.")
def main(out: Path, trials: int) -> None:
    """Simulate, print a table for each slowdown, write OUT/compare.json."""
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for slowdown in SLOWDOWNS:
        count = trials if slowdown == 0 else trials // 4
        found[f"{slowdown:.0%}"] = {name: shares(name, slowdown, count) for name in NOISES}
        print(table(slowdown, count, found[f"{slowdown:.0%}"]))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "compare.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


def shares(name: str, slowdown: float, trials: int) -> dict[str, dict[str, float]]:
    """Rule -> answer -> share of the trials."""
    counts: dict[str, dict[str, int]] = {}
    for trial in range(trials):
        random = np.random.default_rng([trial, list(NOISES).index(name), round(slowdown * 100)])
        answers = {"edgelr": checked(random, name, slowdown), **others(random, name, slowdown)}
        for rule, answer in answers.items():
            counts.setdefault(rule, {}).setdefault(answer, 0)
            counts[rule][answer] += 1
    return {rule: {answer: n / trials for answer, n in each.items()} for rule, each in counts.items()}


def checked(random: np.random.Generator, name: str, slowdown: float) -> str:
    """The answer of ``edgelr compare``; a regression has to be found twice."""
    start = 0.0
    for _ in range(2):
        answer, start = one_round(random, name, slowdown, start)
        if answer != "regression":
            return answer
    return "regression"


def one_round(random: np.random.Generator, name: str, slowdown: float, start: float) -> tuple[str, float]:
    """Restarts until a look settles it."""
    ratios: list[float] = []
    twins: list[float] = []
    answer = "inconclusive"
    for look in (look for look in LOOKS if look <= MOST):
        while len(ratios) < look:
            base, candidate, twin = restart(random, name, slowdown, start)
            start += START_S + 3 * BLOCKS * BLOCK_CALLS * CALL_S
            ratios.append(math.log(candidate / base))
            twins.append(math.log(twin / base))
        answer = decide(ratios, twins, TOLERANCE).outcome
        if answer != "inconclusive":
            break
    return answer, start


def restart(
    random: np.random.Generator, name: str, slowdown: float, start: float
) -> tuple[float, float, float]:
    """Medians of base, candidate and twin in one restart, interleaved there and back."""
    ways = [random.permutation(3) for _ in range(BLOCKS // 2)]
    order = np.concatenate([[*there, *there[::-1]] for there in ways])
    sides = np.repeat(order, BLOCK_CALLS)
    at = start + START_S + CALL_S * np.arange(len(sides))
    logs = NOISES[name](random, at)
    logs += np.array([processes(random, name) for _ in range(3)])[sides]
    logs += math.log1p(slowdown) * (sides == 1)
    base, candidate, twin = (float(np.exp(np.median(logs[sides == side]))) for side in range(3))
    return base, candidate, twin


def processes(random: np.random.Generator, name: str) -> float:
    """What a process adds: its memory layout, or which of two kinds it is."""
    kind = 0.03 * random.integers(2) if name == "bimodal" else 0.0
    return float(random.normal(0, BETWEEN_PROCESSES) + kind)


def others(random: np.random.Generator, name: str, slowdown: float) -> dict[str, str]:
    """The answers of rules that time one process a side, one side after the other."""
    calls = 100
    at = CALL_S * np.arange(2 * calls) + np.repeat([0.0, START_S], calls)
    logs = NOISES[name](random, at)
    one, other = np.split(logs, 2)
    base: Times = np.exp(one + processes(random, name))
    candidate: Times = np.exp(other + processes(random, name) + math.log1p(slowdown))
    ratio = float(np.median(candidate) / np.median(base))
    apart = median_interval(candidate)[0] > median_interval(base)[1]
    found = {"threshold": ratio > 1.1, "asv": apart and ratio > 1.1, "U test": u_test(base, candidate) < 0.05}
    return {rule: "regression" if slower else "pass" for rule, slower in found.items()}


def median_interval(times: Times) -> tuple[float, float]:
    """99 % interval of the median, by order statistics."""
    half = 2.576 * math.sqrt(len(times)) / 2
    ordered = np.sort(times)
    low, high = math.floor(len(times) / 2 - half), math.ceil(len(times) / 2 + half)
    return float(ordered[max(0, low)]), float(ordered[min(len(times) - 1, high)])


def u_test(base: Times, candidate: Times) -> float:
    """One-sided p of Mann and Whitney's U test, by the normal approximation."""
    ranks = np.argsort(np.argsort(np.concatenate([base, candidate]))) + 1.0
    count = len(base)
    u = ranks[count:].sum() - count * (count + 1) / 2
    z = (u - count * count / 2) / math.sqrt(count * count * (2 * count + 1) / 12)
    return 0.5 * math.erfc(z / math.sqrt(2))


def table(slowdown: float, trials: int, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Share of trials called a regression by each rule; of edgelr also those that are not sure."""
    what = "nothing changed" if slowdown == 0 else f"{slowdown:.0%} slower"
    rules = "edgelr | (not sure) | threshold 10 % | asv | U test"
    lines = [f"\n| {what}, {trials} trials: called a regression | {rules} |", "|---" * 6 + "|"]
    for name, each in found.items():
        regressions = {rule: answers.get("regression", 0.0) for rule, answers in each.items()}
        cells = [regressions["edgelr"], each["edgelr"].get("inconclusive", 0.0)]
        cells += [regressions[rule] for rule in ("threshold", "asv", "U test")]
        lines.append(f"| {name} | " + " | ".join(f"{cell:.1%}" for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
