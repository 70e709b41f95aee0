"""How often a latency check is wrong, simulated and for real: this project's rule and three others.

    python scripts/benchmarks/compare.py series --package build/docs-search/package --at-most 1
    python scripts/benchmarks/compare.py report
    python scripts/benchmarks/compare.py simulate --recorded build/benchmarks/compare-series.jsonl

``series`` makes real checks, one after the other, and appends a row of JSON for each; it goes on where it was
stopped. ``report`` says what they found, and what the other rules say of the same recordings. ``simulate``
takes a minute or two on one core.

Every simulated trial has the calls of one check on one machine: a time for each call, of a base of 10 ms and
of a candidate that is slower by a known share, under one kind of noise. The rules see the same kind of noise,
each with the calls that it would make in the same time:

* edgelr: restarts of base, candidate and twin in interleaved blocks, decided on after each of the looks of
  ``edgelr.compare.statistics``, at most 18 restarts, and a regression only when a second round finds it
  again, in at most 18 restarts too. The tolerance is 2.5 %, half of the smallest slowdown that is asked for.
* the others (``compare_rules.py``): one process a side, one after the other, 100 calls each.

Kinds of noise, all with 0.7 % between processes: log-normal (2 % between calls), bimodal (every process is
one of two that differ by 3 %), drifting (a slow wave of 10 % over the job), autocorrelated (a random walk
that returns, 3 %), outliers (a call in ten takes up to three times as long), neighbour (another job comes and
goes and takes 30 %). ``recorded`` is none of these: restarts of the real series in which nothing changed, in
their order from a random one on, their three sides in random roles; there all rules see the same calls.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice, permutations
from pathlib import Path
from typing import Any

import click
import numpy as np
from compare_rules import RULES, Times, other_rules
from compare_series import check, plan, read_rows, slower_package

from edgelr.compare.protocol import SIDES, ratios_of
from edgelr.compare.statistics import (
    ALPHA_PER_LOOK,
    ALPHA_PER_LOOK_AGAIN,
    LOOKS,
    LOOKS_AGAIN,
    decide,
)

Recorded = Sequence[Sequence[float]]
"""Milliseconds of one side in one restart, block by block."""
Shares = dict[str, dict[str, float]]
Noise = Callable[[np.random.Generator, Times], Times]
"""(random numbers, moments of the calls in seconds) -> log of what each call's time is multiplied by"""

CALL_S = 0.01
BLOCK_CALLS = 10
BLOCKS = 6
START_S = 1.5  # of the processes of a restart, before anything is timed
MOST = 18
ROUNDS = ((LOOKS, ALPHA_PER_LOOK), (LOOKS_AGAIN, ALPHA_PER_LOOK_AGAIN))
TOLERANCE = 0.025
BETWEEN_PROCESSES = 0.007
SLOWDOWNS = (0.0, 0.05, 0.10)
SERIES = "compare-series.jsonl"
OUT = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True
)


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


@click.group()
def main() -> None:
    """Latency checks, simulated and real."""


@main.command()
@OUT
@click.option("--trials", default=2000, show_default=True, help="Without a slowdown; a quarter with one.")
@click.option("--recorded", type=click.Path(path_type=Path, exists=True), help="Rows of a series.")
def simulate(out: Path, trials: int, recorded: Path | None) -> None:
    """Simulate, print a table for each slowdown, write OUT/compare.json."""
    pool = [] if recorded is None else recordings(read_rows(recorded))
    found: dict[str, dict[str, Shares]] = {}
    for slowdown in SLOWDOWNS:
        made = trials if slowdown == 0 else trials // 4
        each = {name: shares(name, slowdown, made) for name in NOISES}
        if pool:
            each[f"recorded ({len(pool)} restarts)"] = recorded_shares(pool, slowdown, made)
        found[f"{slowdown:.0%}"] = each
        print(table(slowdown, made, each), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "compare.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


@main.command()
@OUT
@click.option(
    "--package", type=click.Path(path_type=Path), default=Path("build/docs-search/package"), show_default=True
)
@click.option("--same", default=40, show_default=True, help="Against itself, beside a neighbour.")
@click.option("--slower", default=20, show_default=True, help="Against one with 7 % more to compute, alone.")
@click.option("--slower-neighbour", default=0, show_default=True, help="Likewise, beside a neighbour.")
@click.option("--at-most", type=int, help="Checks now; the rest another time.")
@click.option(
    "--tolerance", default=0.01, show_default=True, help="A share: 7 % more to compute cost less time."
)
@click.option("--budget", default=60.0, show_default=True, help="Seconds for the answer.")
def series(  # noqa: PLR0913, PLR0917 - a command line
    out: Path,
    package: Path,
    same: int,
    slower: int,
    slower_neighbour: int,
    at_most: int | None,
    tolerance: float,
    budget: float,
) -> None:
    """Make real checks and append their rows to OUT/compare-series.jsonl; goes on where it was stopped."""
    path, other = out / SERIES, out / "slower"
    more = slower_package(package, other)
    counts = {"same": same, "slower": slower, "slower, neighbour": slower_neighbour}
    left = plan(counts, read_rows(path))
    print(f"{len(left)} checks are left; the slower package has {more:.1%} more multiply-accumulates")
    for kind, number in left[:at_most]:
        row = check(kind, number, package, other, tolerance=tolerance, budget_s=budget)
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({**row, "more_macs": more}) + "\n")
        words = f"{row['outcome']}, ×{row['ratio']:.3f}, {row['restarts']} restarts, {row['seconds']:.0f} s"
        print(f"{kind} {number}: {words}", flush=True)


@main.command()
@OUT
def report(out: Path) -> None:
    """Say what the checks of a series found, and what other rules say of the same recordings."""
    rows = read_rows(out / SERIES)
    print(series_table(rows))
    print(rules_table(rows))


def shares(name: str, slowdown: float, trials: int) -> Shares:
    """Rule -> answer -> share of the trials."""
    answers = []
    for trial in range(trials):
        random = np.random.default_rng([trial, list(NOISES).index(name), round(slowdown * 100)])
        answers.append({"edgelr": checked(random, name, slowdown), **others(random, name, slowdown)})
    return counted(answers)


def counted(answers: Sequence[Mapping[str, str]]) -> Shares:
    """Rule -> answer -> share."""
    found: Shares = {}
    for rule in answers[0]:
        said = [each[rule] for each in answers]
        found[rule] = {answer: said.count(answer) / len(said) for answer in dict.fromkeys(said)}
    return found


def checked(random: np.random.Generator, name: str, slowdown: float) -> str:
    """The answer of ``edgelr compare``; a regression has to be found twice."""
    seconds = START_S + 3 * BLOCKS * BLOCK_CALLS * CALL_S
    return twice(restart(random, name, slowdown, number * seconds) for number in count())


def twice(restarts: Iterator[tuple[float, float]]) -> str:
    """The answer to log ratios of candidate and twin, restart after restart; both rounds have to agree."""
    answer = "inconclusive"
    for looks, alpha in ROUNDS:
        answer = one_round(restarts, looks, alpha)
        if answer != "regression":
            break
    return answer


def one_round(restarts: Iterator[tuple[float, float]], looks: Sequence[int], alpha: float) -> str:
    """Restarts until a look settles it."""
    found: list[tuple[float, float]] = []
    answer = "inconclusive"
    for look in (look for look in looks if look <= MOST):
        found += islice(restarts, look - len(found))
        ratios, twins = zip(*found, strict=True)
        answer = decide(ratios, twins, TOLERANCE, alpha).outcome
        if answer != "inconclusive":
            break
    return answer


def restart(random: np.random.Generator, name: str, slowdown: float, start: float) -> tuple[float, float]:
    """Log ratios of candidate and twin in one restart, interleaved there and back."""
    ways = [random.permutation(3) for _ in range(BLOCKS // 2)]
    order = np.concatenate([[*there, *there[::-1]] for there in ways])
    sides = np.repeat(order, BLOCK_CALLS)
    at = start + START_S + CALL_S * np.arange(len(sides))
    logs = NOISES[name](random, at)
    logs += np.array([processes(random, name) for _ in range(3)])[sides]
    logs += math.log1p(slowdown) * (sides == 1)
    times = np.exp(logs)
    return ratios_of(
        {
            side: times[sides == number].reshape(BLOCKS, BLOCK_CALLS).tolist()
            for number, side in enumerate(SIDES)
        }
    )


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
    return other_rules(base, candidate)


def recordings(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Recorded]]:
    """Times by side and block of every restart in which nothing changed, in their order."""
    return [restart for row in rows if row["kind"] == "same" for restart in row["times_ms"]]


def recorded_shares(pool: Sequence[Mapping[str, Recorded]], slowdown: float, trials: int) -> Shares:
    """As ``shares``, on recordings."""
    slower = math.log1p(slowdown)
    ratios = [
        {roles: ratios_of(dict(zip(roles, each.values(), strict=True))) for roles in permutations(SIDES)}
        for each in pool
    ]
    answers = []
    for trial in range(trials):
        random = np.random.default_rng([trial, round(slowdown * 100)])
        first = int(random.integers(len(pool)))
        roles = [list(permutations(SIDES))[each] for each in random.integers(6, size=2 * MOST)]
        found = [ratios[(first + number) % len(pool)][each] for number, each in enumerate(roles)]
        sides = dict(zip(roles[0], map(flat, pool[first].values()), strict=True))
        answers.append(
            {
                "edgelr": twice((candidate + slower, twin) for candidate, twin in found),
                **other_rules(sides["base"], sides["candidate"] * (1 + slowdown)),
            }
        )
    return counted(answers)


def flat(blocks: Recorded) -> Times:
    """Times of all calls."""
    return np.array([time for block in blocks for time in block])


def series_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each kind of check."""
    heading = (
        "check | runs | pass | regression | not sure | ratio, median [least, most] | seconds, median, most"
    )
    lines = [f"| {heading} |"]
    lines.append("|---" * 7 + "|")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        outcomes = [
            sum(row["outcome"] == each for row in own) for each in ("pass", "regression", "inconclusive")
        ]
        ratios, seconds = ([row[name] for row in own] for name in ("ratio", "seconds"))
        cells = [kind, len(own), *outcomes]
        cells.append(f"×{np.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]")
        cells.append(f"{np.median(seconds):.0f}, {max(seconds):.0f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def rules_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Regressions that each rule sees in the same recordings: of the first restart, and of all together."""
    lines = [
        "\n| called a regression | runs | edgelr | "
        + " | ".join(
            f"{rule}, {what}"
            for rule in ("threshold 10 %", "asv", "U test")
            for what in ("one restart", "all")
        )
        + " |",
        "|---" * 9 + "|",
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        cells = [kind, len(own), sum(row["outcome"] == "regression" for row in own)]
        said = {what: [other_rules(*recorded_sides(row, what)) for row in own] for what in (1, None)}
        cells += [
            sum(each[rule] == "regression" for each in said[what]) for rule in RULES for what in (1, None)
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def recorded_sides(row: Mapping[str, Any], restarts: int | None) -> tuple[Times, Times]:
    """Calls of base and candidate in the first restarts of a check; in all when None."""
    part = row["times_ms"][:restarts]
    base, candidate = (np.concatenate([flat(each[side]) for each in part]) for side in ("base", "candidate"))
    return base, candidate


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
