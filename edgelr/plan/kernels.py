"""A table of measured kernel times: which rank is faster than the dense layer on a device, and by how much.

Multiply-accumulates do not say it: a thin matrix runs at fewer of them a second, int8 quantizes the inner
activations once more, and each factor is one more node. So a few ranks of each shape are timed on the device,
in the same rounds as the dense model that they are part of, and the ranks between are interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelr.artifact_files import read_json, write_json
from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError
from edgelr.progress import Progress
from edgelr.timing.kernel_graph import Attention, Kernel, Timed, write_kernel, write_stub
from edgelr.timing.rounds import Case, measure_rounds, package_case

GRID_RANKS = 7
FILE = "kernels.json"
_MODEL = "model"
_MODEL_SHARE = 0.15  # of the measuring time
_STUB_SHARE = 0.1
# Whatever else runs on the host only ever adds time, and not the same to a call of 2 ms and to one of 30 ms:
# with medians, a busy host made half of the kernels of one table 1.6 times as slow as the others.
_PERCENTILE = 10
_BUSY_SPREAD = 1.25  # of the model's times, median over 10th percentile; a guess: it only makes a warning
_LEAST_MS = 1e-6  # a kernel below the noise must not become free, or gain time


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How kernels are measured.

    Attributes:
        device: Where; its evidence has to be ``run``.
        tokens: Length of the one text of a call.
        quantize: ``quantize(source, target)`` gives a kernel the precision of the package; None for fp32.
        seconds: Measuring time for everything; writing, loading and warming up come on top.
    """

    device: Device
    tokens: int
    quantize: Callable[[Path, Path], None] | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class KernelTimes:
    """What was measured.

    Attributes:
        device: The profile's name.
        precision: Of kernels and model: ``fp32`` or the quantization scheme.
        tokens: Length of the one text of a call.
        model_ms: The whole dense model. Like those of the kernels, the 10th percentile of its calls: what an
            undisturbed host takes.
        kernels_ms: Every timed kernel; of one shape, a higher rank is never faster, nor are larger heads.
    """

    device: str
    precision: str
    tokens: int
    model_ms: float
    kernels_ms: Mapping[Timed, float]

    def ms(self, in_: int, outs: tuple[int, ...], rank: int | None, *, calls: int = 1) -> float:
        """Milliseconds of a kernel for one text; linear between the ranks that were timed.

        Args:
            in_: Width of the input.
            outs: Width of each output.
            rank: Inner dimension; None for dense.
            calls: How often it runs per token.

        Raises:
            ValueError: The shape was not timed, or the rank is outside of those that were.
        """
        if rank is None:
            timed = self.kernels_ms.get(Kernel(in_, outs, None))
            if timed is None:
                raise ValueError(f"the dense kernel {in_} -> {outs} was not timed")
            return timed * calls
        ranks = self._ranks(in_, outs)
        if not self.covers(in_, outs, rank):
            raise ValueError(f"rank {rank} of {in_} -> {outs} is not among the timed: {ranks}")
        times = [self.kernels_ms[Kernel(in_, outs, each)] for each in ranks]
        return float(np.interp(rank, ranks, times)) * calls

    def attention_ms(self, attention: Attention) -> float:
        """Milliseconds of one attention for one text.

        Raises:
            ValueError: It was not timed.
        """
        timed = self.kernels_ms.get(attention)
        if timed is None:
            raise ValueError(f"{attention} was not timed")
        return timed

    def covers(self, in_: int, outs: tuple[int, ...], rank: int) -> bool:
        """Whether a rank is among those that were timed, or between two of them."""
        ranks = self._ranks(in_, outs)
        return bool(ranks) and ranks[0] <= rank <= ranks[-1]

    def _ranks(self, in_: int, outs: tuple[int, ...]) -> list[int]:
        same = (k for k in self.kernels_ms if isinstance(k, Kernel) and (k.in_, k.outs) == (in_, outs))
        return sorted(kernel.rank for kernel in same if kernel.rank is not None)


def kernel_grid(in_: int, outs: tuple[int, ...], multiple: int, points: int = GRID_RANKS) -> list[Kernel]:
    """The kernels to time for one shape: dense, and ranks from the smallest to the last below break-even.

    Args:
        in_: Width of the input.
        outs: Width of each output.
        multiple: Ranks are multiples of this.
        points: Ranks at most, at least two; evenly spread, the first and the last among them.
    """
    width = sum(outs)
    last = (in_ * width - 1) // (in_ + width) // multiple
    steps = sorted({round(step) for step in np.linspace(1, last, points)}) if last > 0 else []
    return [Kernel(in_, outs, None), *(Kernel(in_, outs, multiple * step) for step in steps)]


def measure_kernels(
    kernels: Sequence[Timed], package: Package, conditions: Conditions, scratch: Path, progress: Progress
) -> KernelTimes:
    """Time kernels, and the dense model next to them.

    Args:
        kernels: What to time; duplicates are timed once.
        package: The dense model, at the precision that the kernels are to have.
        conditions: Device, length, quantization and measuring time.
        scratch: A folder for the graphs; what is left in it is worth nothing.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: The process died or hangs.
        EdgelrError: A graph cannot be opened or run on the device.
    """
    device, tokens, seconds = conditions.device, conditions.tokens, conditions.seconds
    wanted = list(dict.fromkeys(kernels))
    share = seconds * (1 - _MODEL_SHARE) / max(1, len(wanted))
    cases = [
        package_case(package, device, tokens=tokens, seconds=seconds * _MODEL_SHARE, name=_MODEL),
        *(case for kernel in wanted for case in _cases(kernel, conditions, share, scratch)),
    ]
    rounds = measure_rounds(cases, device, progress, label="kernels")
    found = {name: float(np.percentile(times_ms, _PERCENTILE)) for name, times_ms in rounds.items()}
    _warn_if_busy(float(np.median(rounds[_MODEL])) / found[_MODEL], device, progress)
    times = {
        kernel: max(_LEAST_MS, (found[_name(kernel)] - found[f"no {_name(kernel)}"]) / kernel.copies)
        for kernel in wanted
    }
    return KernelTimes(
        device=device.name,
        precision=package.precision,
        tokens=tokens,
        model_ms=found[_MODEL],
        kernels_ms=monotone(times),
    )


def _warn_if_busy(spread: float, device: Device, progress: Progress) -> None:
    """Calls of a whole model are long: on a busy host none is undisturbed, and the rest seems too slow."""
    if spread > _BUSY_SPREAD:
        progress.warn(
            f"the median call of the dense model on {device.name} took {spread:.2f} times its fastest tenth: "
            "this host is busy, and the speedup will be off"
        )


def monotone(times: Mapping[Timed, float]) -> dict[Timed, float]:
    """The nearest times (least squares) that never fall with rank or head size; dense layers stay.

    Noise would otherwise make a higher rank the faster one. Neighbors in the wrong order share their mean
    until none are left (pool adjacent violators).

    Args:
        times: Kernel -> milliseconds.
    """
    smooth = dict(times)
    for chain in _chains(times):
        pools: list[list[float]] = []
        for kernel in chain:
            pools.append([smooth[kernel]])
            while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
                pools[-2:] = [pools[-2] + pools[-1]]
        means = [float(np.mean(pool)) for pool in pools for _ in pool]
        smooth |= dict(zip(chain, means, strict=True))
    return smooth


def _chains(times: Mapping[Timed, float]) -> list[list[Timed]]:
    """Kernels that differ in one number only, by that number."""
    found: dict[tuple[object, ...], list[tuple[int, Timed]]] = {}
    for kernel in times:
        if isinstance(kernel, Attention):
            heads, size, value_size = kernel.heads, kernel.size, kernel.value_size
            found.setdefault(("query-key", heads, value_size), []).append((size, kernel))
            found.setdefault(("value-output", heads, size), []).append((value_size, kernel))
        elif kernel.rank is not None:
            found.setdefault((kernel.in_, kernel.outs), []).append((kernel.rank, kernel))
    return [[kernel for _, kernel in sorted(chain, key=lambda row: row[0])] for chain in found.values()]


def write_kernel_times(times: KernelTimes, folder: Path) -> None:
    """Write ``kernels.json``."""
    rows = [{**asdict(kernel), "ms": ms} for kernel, ms in times.kernels_ms.items()]
    write_json(folder / FILE, {**vars(times), "kernels_ms": rows})


def read_kernel_times(folder: Path) -> KernelTimes:
    """Open a folder that ``write_kernel_times`` wrote.

    Raises:
        DamagedArtifactError: kernels.json is missing, is not JSON, or has another layout.
    """
    document = read_json(folder / FILE)
    try:
        rows = document.pop("kernels_ms")
        return KernelTimes(kernels_ms={_kernel(row): float(row["ms"]) for row in rows}, **document)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedArtifactError(
            f"{folder / FILE} does not have the layout of this version: {type(error).__name__}: {error}",
            "build the artifact again",
        ) from error


def _kernel(row: Mapping[str, Any]) -> Timed:
    if "heads" in row:
        return Attention(row["heads"], row["size"], row["value_size"])
    return Kernel(row["in_"], tuple(row["outs"]), row["rank"])


def _cases(kernel: Timed, conditions: Conditions, seconds: float, scratch: Path) -> tuple[Case, Case]:
    name = _name(kernel)
    graph, stub = scratch / f"{name}.onnx", scratch / f"{name}.stub.onnx"
    inputs = write_kernel(graph, kernel, conditions.tokens)
    if conditions.quantize is not None and isinstance(kernel, Kernel):  # attention stays fp32 in a package
        source = graph.rename(scratch / f"{name}.fp32.onnx")
        conditions.quantize(source, graph)
        source.unlink()
    write_stub(stub, kernel, conditions.tokens)
    return (
        Case(name=name, opens={"model": str(graph)}, inputs=inputs, seconds=seconds * (1 - _STUB_SHARE)),
        Case(name=f"no {name}", opens={"model": str(stub)}, inputs=inputs, seconds=seconds * _STUB_SHARE),
    )


def _name(kernel: Timed) -> str:
    if isinstance(kernel, Attention):
        return f"attention.{kernel.heads}.{kernel.size}.{kernel.value_size}"
    outs = "-".join(str(out) for out in kernel.outs)
    return f"{kernel.in_}.{outs}.{'dense' if kernel.rank is None else kernel.rank}"
