r"""What the second thread of this machine is worth, second by second, to a matrix product and to a package.

    python scripts/benchmarks/shared_cores.py --package candidate=build/heads --package dense=build/plain

A virtual machine says that it has two processors; whether they are two cores or two threads of one is up to
its host, which may change it at any time and counts nothing as stolen. A plain product of two matrices
tells when two threads run as if on one core: else they multiply twice as much as one thread. In each window
every package writes sentences with one thread and with two; the products of that window and of the next one
say on what, and windows in which that changed are left out. All in one process. Prints a table, writes
JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from pathlib import Path

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # of one product; read by numpy

import click
import numpy as np
from translation import sides_of, source_ids
from translation_worker import device_with

from edgelr.device.host import describe_host, host_state
from edgelr.progress import Progress
from edgelr.report.markdown import table
from edgelr.runtime.package import open_package
from edgelr.runtime.translate import Translator, open_translator, timed_translation

TOKENS = 8
PRODUCT_S, BLOCK_S = 0.05, 0.1
SIZE = 160  # of the matrices: 100 KiB each, all three in the cache of a core
ONE_CORE, TWO_CORES = 1.3, 1.7  # products of two threads per product of one: at most, at least


@click.command()
@click.option("--package", "packages", multiple=True, required=True, metavar="NAME=FOLDER")
@click.option("--windows", default=500, show_default=True)
@click.option("--vocabulary", default=3900, show_default=True, help="Source ids are below this.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
def main(packages: tuple[str, ...], windows: int, vocabulary: int, out: Path) -> None:
    """Measure, print the table, write OUT/shared_cores.json."""
    sides = sides_of(packages, None)
    opened = {
        (side.name, threads): open_translator(open_package(side.folder), device_with(threads, spinning=False))
        for side in sides
        for threads in (1, 2)
    }
    ids = source_ids((TOKENS, 1), vocabulary, eos=0)
    for translator in opened.values():
        tokens_per_s(translator, ids)
    worth, speeds = [], []
    with Progress().bar("windows", windows) as advance:
        for _ in range(windows):
            worth.append(products_per_s(2) / products_per_s(1))
            speeds.append({side: tokens_per_s(translator, ids) for side, translator in opened.items()})
            advance()
    worth.append(products_per_s(2) / products_per_s(1))
    rows = [row for side in sides for row in rows_of(side.name, worth, speeds)]
    run = {"host": {**describe_host(), **host_state()}, "worth_of_two": worth, "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "shared_cores.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    one = sum(each <= ONE_CORE for each in worth) / len(worth)
    print(f"as if on one core in {one:.0%} of the looks")
    if rows:
        print("", table(list(rows[0]), [list(row.values()) for row in rows]), sep="\n")


def products_per_s(threads: int) -> float:
    """Products of two matrices that so many threads make in all; numpy lets them run beside each other."""
    matrix, counts = np.full((SIZE, SIZE), 0.5, np.float32), [0] * threads

    def multiply(place: int) -> None:
        product = np.empty_like(matrix)
        end = time.perf_counter() + PRODUCT_S
        while time.perf_counter() < end:
            for _ in range(20):
                np.dot(matrix, matrix, out=product)
            counts[place] += 20

    running = [threading.Thread(target=multiply, args=(place,)) for place in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    return sum(counts) / PRODUCT_S


def tokens_per_s(translator: Translator, ids: list[list[int]]) -> float:
    """Tokens of the median sentence."""
    times, end = [], time.perf_counter() + BLOCK_S
    while time.perf_counter() < end:
        times.append(timed_translation(translator, ids, TOKENS)[2])
    return TOKENS / statistics.median(times)


def rows_of(
    name: str, worth: list[float], speeds: list[dict[tuple[str, int], float]]
) -> list[dict[str, str | int]]:
    """Medians of a package on two cores and on one, if the machine was so for a whole window."""
    found: list[dict[str, str | int]] = []
    for cores, least, most in (("two", TWO_CORES, float("inf")), ("one", 0.0, ONE_CORE)):
        there = [
            speed
            for speed, *around in zip(speeds, worth, worth[1:], strict=False)
            if all(least <= each <= most for each in around)
        ]
        if not there:
            continue
        medians = {
            f"tokens/s, {threads} thread{'s' * (threads > 1)}": round(
                statistics.median(speed[name, threads] for speed in there)
            )
            for threads in (1, 2)
        }
        found.append({"cores": cores, "package": name, "windows": len(there), **medians})
    return found


if __name__ == "__main__":
    main()
