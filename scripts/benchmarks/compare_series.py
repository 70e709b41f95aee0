"""A series of real latency checks: a package against itself beside a neighbour, and against a slower one.

Every check is one that ``edgelr compare`` would make. Rows are JSON lines: what it said, and the times of
every call of every block of every restart, so that other rules can be asked about the same recordings, and
simulations can draw from them.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgelr.compare.check import Comparison, check_latency
from edgelr.compare.protocol import Setup
from edgelr.compare.sides import common_inputs, open_side
from edgelr.device.host import describe_host, threads_used
from edgelr.device.load import load_devices
from edgelr.progress import Progress
from edgelr.runtime.package import open_package
from edgelr.runtime.package_copy import seal_again
from edgelr.timing.affinity import choose_cpus

MORE_MACS = 0.07
WIDER = 16  # ranks, as many as the recipe's ranks are a multiple of
# Burns a core and the caches for some seconds, then sleeps for some: a job that comes and goes.
NEIGHBOUR = """
import random, sys, time
import numpy as np
draw = random.Random(int(sys.argv[1]))
big = np.ones(4_000_000)
while True:
    end = time.monotonic() + draw.uniform(1, 8)
    while time.monotonic() < end:
        big += 1.0
    time.sleep(draw.uniform(1, 8))
"""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of check.

    Attributes:
        slower: Whether the candidate is the package with more to compute.
        neighbour: Whether another job comes and goes meanwhile.
    """

    slower: bool
    neighbour: bool


KINDS = {
    "same": Kind(slower=False, neighbour=True),
    "slower": Kind(slower=True, neighbour=False),
    "slower, neighbour": Kind(slower=True, neighbour=True),
}


def plan(counts: dict[str, int], rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """The checks that are still to be made, the kinds in proportion, so that any part has all of them."""
    made = {(row["kind"], row["number"]) for row in rows}
    wanted = sorted(
        ((number + 0.5) / count, kind, number) for kind, count in counts.items() for number in range(count)
    )
    return [(kind, number) for _, kind, number in wanted if (kind, number) not in made]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows so far; a last line that was cut off by a kill does not count."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def check(
    kind: str, number: int, package: Path, slower: Path, *, tolerance: float, budget_s: float
) -> dict[str, Any]:
    """Make one check.

    Args:
        kind: Of ``KINDS``.
        number: Of the check among its kind: the seed of everything.
        package: The base.
        slower: The same with more to compute.
        tolerance: A share.
        budget_s: Time for the answer.

    Returns:
        The row.
    """
    settings = KINDS[kind]
    device = load_devices()["cpu-1t"]
    sides = open_side("base", package), open_side("candidate", slower if settings.slower else package)
    setup = Setup(
        base=sides[0],
        candidate=sides[1],
        device=device,
        inputs=common_inputs(*sides, tokens=128, audio_s=5, sizes={}),
        cpus=tuple(choose_cpus(threads_used(device))),
        patience_s=60.0,
    )
    seed = random.Random(f"{kind} {number}").randrange(10**6)
    with neighbour(seed) if settings.neighbour else nobody():
        start = time.monotonic()
        found = check_latency(setup, Progress(), limits={"p50": tolerance}, seconds=budget_s, seed=seed)
        seconds = time.monotonic() - start
    return row(kind, number, tolerance, found, seconds)


def row(kind: str, number: int, tolerance: float, found: Comparison, seconds: float) -> dict[str, Any]:
    """What a check found, and its recordings."""
    p50 = found.rows[0]
    return {
        "kind": kind,
        "number": number,
        "tolerance": tolerance,
        "outcome": found.outcome,
        "ratio": p50.ratio,
        "noise": p50.noise,
        "seconds": round(seconds, 1),
        "restarts": found.restarts,
        "p50_ms": found.p50_ms,
        "host": describe_host(),
        "times_ms": [
            {
                side: [[round(value, 4) for value in block] for block in blocks]
                for side, blocks in restart.times_ms.items()
            }
            for restart in found.measured
        ],
    }


@contextmanager
def neighbour(seed: int) -> Iterator[None]:
    """Another job on this machine."""
    with subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(seed)]) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def nobody() -> Iterator[None]:
    """No other job."""
    yield


def slower_package(package: Path, out: Path) -> float:
    """Write the package with more to compute and the same outputs: some inner ranks get zeros beside them.

    Args:
        package: One whose linear layers are factored, in dynamic int8.
        out: Where to; replaced if it is there.

    Returns:
        Multiply-accumulates that it has more of, as a share of those of all its matrices.
    """
    opened = open_package(package)
    model = onnx.load(package / "model.onnx")
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    products = {node.name: node for node in model.graph.node if node.op_type == "MatMulInteger"}
    narrowed = {
        node.output[0]: node.input[1] for node in model.graph.node if node.output[0].endswith(".narrow")
    }
    whole = sum(arrays[node.input[1]].size for node in products.values())
    more = 0
    for name, up in products.items():
        down = products.get(name.replace(".up_quant", ".down_quant"))
        if ".up_quant" not in name or down is None or more >= MORE_MACS * whole:
            continue
        more += WIDER * (arrays[down.input[1]].shape[0] + arrays[up.input[1]].shape[1])
        zero = arrays[down.input[3]]
        columns = np.full((arrays[down.input[1]].shape[0], WIDER), zero.flat[-1], zero.dtype)
        arrays[down.input[1]] = np.concatenate([arrays[down.input[1]], columns], axis=1)
        scale = down.input[1].replace("_quantized", "_scale")
        for each in (down.input[3], scale, narrowed.get(up.input[0].removesuffix("_quantized"), scale)):
            if arrays[each].ndim and len(arrays[each]) < arrays[down.input[1]].shape[1]:
                arrays[each] = np.concatenate([arrays[each], np.repeat(arrays[each][-1:], WIDER)])
        rows = np.broadcast_to(arrays[up.input[3]], (WIDER, arrays[up.input[1]].shape[1]))
        arrays[up.input[1]] = np.concatenate([arrays[up.input[1]], rows.astype(arrays[up.input[1]].dtype)])
    for each in model.graph.initializer:
        each.CopyFrom(numpy_helper.from_array(arrays[each.name], each.name))
    del model.graph.value_info[:]
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(package, out)
    onnx.save(model, out / "model.onnx")
    seal_again(opened, out)
    return more / whole
