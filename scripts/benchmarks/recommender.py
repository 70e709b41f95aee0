"""A catalog of millions: what compressing its table takes, and how fast the best 20 items are found.

    python scripts/benchmarks/recommender.py                          # 200,000 items, a minute
    python scripts/benchmarks/recommender.py --items 5000000          # the whole: 5 GB of memory, two minutes
    python scripts/benchmarks/recommender.py --movielens build/movielens

The synthetic table has 64 numbers an item, whose energy falls as that of trained tables does, and items are
met as often as Zipf says. It is factored as a recipe does it, weighted by these counts, in a process of its
own whose peak memory is compared with the bytes of the table. The graphs that are timed multiply a user's
vector with the whole catalog, in int8 both, and rank it as ``export.top`` does, without 100 items that were
seen; the factored one also gives all scores, for numpy to rank. One thread, in turn.

``--movielens`` reads what a build made: the bytes of its tables in each package's graph, and the differences
that validation found.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

DIM, TOP = 64, 20
_BLOCK = 10_000  # items that are made at once

os.environ.setdefault("OMP_NUM_THREADS", "1")


def make_table(items: int) -> NDArray[np.float32]:
    """A table ``[items, dim]`` whose principal directions carry energy like ``1 / n²``."""
    draw = np.random.default_rng(0)
    turn, _ = np.linalg.qr(draw.normal(size=(DIM, DIM)))
    spread = (turn / np.arange(1, DIM + 1)[:, None]).astype(np.float32)
    table = np.empty((items, DIM), np.float32)
    for start in range(0, items, _BLOCK):
        rows = table[start : start + _BLOCK]
        rows[:] = draw.normal(size=rows.shape).astype(np.float32) @ spread
    return table


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compress(items: int, rank: int, path: Path) -> dict[str, Any]:
    """Factor a table as a recipe does; its layer's weights are written for the timing."""
    import torch
    from torch import nn

    from edgelr.lowrank.embedding import low_rank_embedding
    from edgelr.lowrank.table import factor_table

    torch.set_num_threads(1)
    base = peak_bytes()
    dense = nn.Embedding(items, DIM, _weight=torch.from_numpy(make_table(items)))
    counts = 1e6 / np.arange(1, items + 1)
    start = time.process_time()
    weight = dense.weight.detach().numpy()
    layer = low_rank_embedding(dense, factor_table(weight, counts, rank))
    seconds = time.process_time() - start
    peak = peak_bytes() - base
    lost = np.zeros(2)
    for at in range(0, items, _BLOCK):
        rows = weight[at : at + _BLOCK]
        near = (layer.table[at : at + _BLOCK] @ layer.up.T).detach().numpy()
        count = counts[at : at + _BLOCK]
        lost += count @ np.square(rows - near).sum(1), count @ np.square(rows).sum(1)
    np.save(path, layer.table.detach().numpy())
    np.save(path.with_suffix(".up.npy"), layer.up.detach().numpy())
    return {
        "table_bytes": weight.nbytes,
        "peak_bytes": peak,
        "peak_share": peak / weight.nbytes,
        "seconds": seconds,
        "lost_energy": float(lost[0] / lost[1]),
    }


def write_graph(path: Path, matrices: list[NDArray[np.float32]]) -> None:
    """``user [1, dim]`` times the matrices, and the ranking; the last matrix is the catalog's.

    In int8 by the operators that scheme ``int8-dynamic`` gives, a scale a column and 7 bits, as it does: ONNX
    Runtime's own quantizer takes a column at a time, which is minutes for millions.
    """
    import onnx
    from onnx import TensorProto, helper

    from edgelr.export.top import add_top

    nodes, weights, value = [], [], "user"
    for number, matrix in enumerate(matrices):
        scales = np.abs(matrix).max(axis=0) / np.float32(63)
        rounded = np.empty(matrix.shape, np.int8)
        for row, numbers in enumerate(matrix):
            rounded[row] = np.rint(numbers / scales)
        parts = {"matrix": rounded, "scale": scales, "zero": np.zeros(matrix.shape[1], np.int8)}
        weights += [_tensor(f"{name}{number}", part) for name, part in parts.items()]
        nodes += _product(value, number)
        value = f"value{number}"
    nodes[-1].output[0] = "scores"
    graph = helper.make_graph(
        nodes,
        "top",
        [helper.make_tensor_value_info("user", TensorProto.FLOAT, [1, DIM])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, matrices[-1].shape[1]])],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    add_top(proto, TOP)
    onnx.save(proto, path)


def _tensor(name: str, array: NDArray[Any]) -> Any:  # noqa: ANN401 - onnx is not typed
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def _product(value: str, number: int) -> list[Any]:
    from onnx import TensorProto, helper

    n = str(number)
    return [
        helper.make_node(
            "DynamicQuantizeLinear", [value], [f"input{n}", f"input_scale{n}", f"input_zero{n}"]
        ),
        helper.make_node(
            "MatMulInteger", [f"input{n}", f"matrix{n}", f"input_zero{n}", f"zero{n}"], [f"sum{n}"]
        ),
        helper.make_node("Cast", [f"sum{n}"], [f"float{n}"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"input_scale{n}", f"scale{n}"], [f"scales{n}"]),
        helper.make_node("Mul", [f"float{n}", f"scales{n}"], [f"value{n}"]),
    ]


def time_graphs(paths: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Milliseconds a call of each graph, in turn, and the size of each file."""
    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.metrics.recommendation import top_items

    device = load_devices()["cpu-1t"]
    sessions = {name: open_session(path, device) for name, path in paths.items()}
    draw = np.random.default_rng(1)
    seen = draw.integers(0, sessions["dense"].get_outputs()[0].shape[1], (1, 100))

    def inside(name: str, given: dict[str, Any]) -> NDArray[Any]:
        found: NDArray[Any] = sessions[name].run(["top_items", "top_scores"], given)[0][0]
        return found

    def outside(name: str, given: dict[str, Any]) -> NDArray[Any]:
        return top_items(sessions[name].run(["scores"], given)[0][0], seen[0].tolist(), TOP)

    calls: dict[str, Callable[[dict[str, Any]], NDArray[Any]]] = {
        "dense": lambda given: inside("dense", given),
        "factored": lambda given: inside("factored", given),
        "factored_ranked_by_numpy": lambda given: outside("factored", given),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 3):
        given = {"user": draw.normal(size=(1, DIM)).astype(np.float32), "seen": seen}
        found = {}
        for name, call in calls.items():
            start = time.perf_counter()
            found[name] = call(given)
            if number >= 3:
                times[name].append((time.perf_counter() - start) * 1e3)
        assert found["factored"].tolist() == found["factored_ranked_by_numpy"].tolist()
    medians = {name: statistics.median(each) for name, each in times.items()}
    return {**{f"{name}_ms": found for name, found in medians.items()}, "files": _sizes(paths)}


def _sizes(paths: dict[str, Path]) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in paths.items()}


def synthetic(items: int, rank: int, rounds: int) -> dict[str, Any]:
    """Both parts of the synthetic catalog."""
    with tempfile.TemporaryDirectory(prefix="edgelr-") as name:
        folder = Path(name)
        command = [sys.executable, __file__, "--items", str(items), "--rank", str(rank)]
        done = subprocess.run(
            [*command, "--compress-to", str(folder / "table.npy")], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        paths = {}
        for variant in ("dense", "factored"):
            if variant == "dense":
                matrices = [np.ascontiguousarray(make_table(items).T)]
            else:
                table = np.load(folder / "table.npy")
                matrices = [np.load(folder / "table.up.npy"), np.ascontiguousarray(table.T)]
            paths[variant] = folder / f"{variant}.onnx"
            write_graph(paths[variant], matrices)
            del matrices
        return {"items": items, "rank": rank, **found, **time_graphs(paths, rounds)}


def movielens(out: Path) -> dict[str, Any]:
    """Bytes of all constants of the graphs of a build, and what its report says."""
    import onnx

    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    sizes = {}
    for manifest in sorted((out.parent / ".store").glob("*/*/package.json")):
        package = json.loads(manifest.read_text(encoding="utf-8"))
        if package["name"].removesuffix("-dense") == report["recipe"]["name"]:
            graph = onnx.load(manifest.parent / "model.onnx").graph
            sizes[f"{package['name']}, {package['precision']}"] = sum(
                np.prod(each.dims) * onnx.numpy_helper.to_array(each).itemsize for each in graph.initializer
            )
    return {
        "constant_bytes": {name: int(size) for name, size in sizes.items()},
        "accuracy": report["accuracy"],
        "latency": report["latency"],
        "notes": [note for note in report.get("notes", []) if "less dense" in note],
    }


@click.command()
@click.option("--items", default=200_000, show_default=True)
@click.option("--rank", default=16, show_default=True)
@click.option("--rounds", default=30, show_default=True, help="Calls of each graph that are timed.")
@click.option("--movielens", "build", type=click.Path(path_type=Path, exists=True), help="An --out folder.")
@click.option("--compress-to", type=click.Path(path_type=Path), hidden=True)
def main(items: int, rank: int, rounds: int, build: Path | None, compress_to: Path | None) -> None:
    """Measure, and print one JSON document."""
    if compress_to is not None:
        print(json.dumps(compress(items, rank, compress_to)))
    else:
        print(json.dumps(synthetic(items, rank, rounds) if build is None else movielens(build), indent=2))


if __name__ == "__main__":
    main()
