import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError
from edgelr.plan.kernels import (
    Conditions,
    Kernel,
    KernelTimes,
    kernel_grid,
    measure_kernels,
    monotone,
    read_kernel_times,
    write_kernel_times,
)
from edgelr.progress import Progress
from edgelr.quantize.dynamic import quantize_matrices
from edgelr.timing.kernel_graph import Attention

Make = Callable[..., Package]
QUIET = Progress(quiet=True)
JOINT = (8, (8, 8, 8))
TIMES = KernelTimes(
    device="cpu-1t",
    precision="fp32",
    tokens=128,
    model_ms=10.0,
    kernels_ms={
        Kernel(8, (8,), None): 1.0,
        Kernel(8, (8,), 2): 0.5,
        Kernel(8, (8,), 4): 1.5,
        Kernel(*JOINT, None): 2.5,
        Attention(2, 4, 4): 3.0,
    },
)


# --- the table -------------------------------------------------------------------------------------


def test_times_between_the_ranks_are_linear() -> None:
    assert [TIMES.ms(8, (8,), rank) for rank in (2, 3, 4)] == [0.5, 1.0, 1.5]
    assert TIMES.ms(8, (8,), 3, calls=12) == 12.0
    assert TIMES.ms(8, (8,), None, calls=2) == 2.0
    assert TIMES.ms(*JOINT, None) == 2.5


def test_ranks_between_the_timed_are_covered() -> None:
    assert [TIMES.covers(8, (8,), rank) for rank in (1, 2, 3, 4, 5)] == [False, True, True, True, False]
    assert not TIMES.covers(*JOINT, 2), "only dense was timed"


def test_attention_is_looked_up_as_it_was_timed() -> None:
    assert TIMES.attention_ms(Attention(2, 4, 4)) == 3.0
    with pytest.raises(ValueError, match=r"Attention\(heads=2, size=3, value_size=4\) was not timed"):
        TIMES.attention_ms(Attention(2, 3, 4))


@pytest.mark.parametrize(
    ("in_", "outs", "rank", "message"),
    [
        (8, (8,), 1, r"rank 1 of 8 -> \(8,\) is not among the timed: \[2, 4\]"),
        (8, (8,), 5, "rank 5 of 8"),
        (*JOINT, 2, r"rank 2 of 8 -> \(8, 8, 8\) is not among the timed: \[\]"),
        (8, (9,), None, r"the dense kernel 8 -> \(9,\) was not timed"),
    ],
)
def test_what_was_not_timed_is_not_guessed(
    in_: int, outs: tuple[int, ...], rank: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TIMES.ms(in_, outs, rank)


def test_a_file_gives_back_the_same_table(tmp_path: Path) -> None:
    write_kernel_times(TIMES, tmp_path)
    assert read_kernel_times(tmp_path) == TIMES
    rows = json.loads((tmp_path / "kernels.json").read_text())["kernels_ms"]
    assert rows[1] == {"in_": 8, "outs": [8], "rank": 2, "ms": 0.5}
    assert rows[-1] == {"heads": 2, "size": 4, "value_size": 4, "ms": 3.0}


@pytest.mark.parametrize("change", [{"kernels_ms": [{"in_": 8}]}, {"more": 1}, {"kernels_ms": 5}])
def test_another_layout_is_damage(tmp_path: Path, change: dict[str, object]) -> None:
    write_kernel_times(TIMES, tmp_path)
    path = tmp_path / "kernels.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DamagedArtifactError, match=r"kernels\.json does not have the layout"):
        read_kernel_times(tmp_path)


# --- which kernels, and what noise makes of them ----------------------------------------------------


def test_a_grid_goes_from_the_smallest_rank_to_the_last_that_saves_parameters() -> None:
    grid = kernel_grid(384, (1536,), 16)
    assert [kernel.rank for kernel in grid] == [None, 16, 64, 112, 160, 208, 256, 304]
    assert [kernel.rank for kernel in kernel_grid(384, (384,), 16)] == [None, 16, 48, 64, 96, 128, 144, 176]
    dense, *factored = kernel_grid(384, (384, 384, 384), 16)
    assert all(kernel.parameters < dense.parameters for kernel in factored)
    assert replace(factored[-1], rank=(factored[-1].rank or 0) + 16).parameters >= dense.parameters


def test_small_shapes_have_few_ranks_or_none() -> None:
    assert [kernel.rank for kernel in kernel_grid(64, (64,), 16)] == [None, 16]
    assert [kernel.rank for kernel in kernel_grid(32, (32,), 16)] == [None], "rank 16 saves nothing"


@given(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=8))
def test_smoothing_never_lets_a_higher_rank_be_faster(values: list[float]) -> None:
    dense = Kernel(8, (8,), None)
    times = {Kernel(8, (8,), rank): ms for rank, ms in enumerate(values, start=1)} | {dense: 5.0}
    smooth = monotone(times)
    found = [smooth[Kernel(8, (8,), rank)] for rank in range(1, len(values) + 1)]
    assert all(before <= after + 1e-12 for before, after in itertools.pairwise(found))
    assert np.sum(found) == pytest.approx(np.sum(values)), "pools keep their mean"
    assert list(smooth) == list(times)
    assert smooth[dense] == 5.0
    assert monotone(smooth) == pytest.approx(smooth)


def test_larger_heads_are_never_faster() -> None:
    times = {
        Attention(2, 8, 8): 3.0,
        Attention(2, 4, 8): 4.0,
        Attention(2, 2, 8): 1.0,
        Attention(2, 8, 4): 2.0,
    }
    assert monotone(times) == {**times, Attention(2, 8, 8): 3.5, Attention(2, 4, 8): 3.5}


# --- real sessions ---------------------------------------------------------------------------------


def test_kernels_are_timed_next_to_their_model(make_package: Make, cpu: Device, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    small, large = Kernel(32, (32,), None), Kernel(256, (256,), None)
    heads = Attention(2, 8, 8)
    kernels = [small, large, *kernel_grid(*JOINT, multiple=2, points=2), heads, small]
    conditions = Conditions(device=cpu, tokens=32, quantize=None, seconds=0.1)
    times = measure_kernels(kernels, make_package(), conditions, tmp_path / "scratch", QUIET)
    assert (times.device, times.precision, times.tokens) == ("cpu-1t", "fp32", 32)
    assert times.model_ms > 0
    assert list(times.kernels_ms) == list(dict.fromkeys(kernels))
    assert times.ms(256, (256,), None) > 4 * times.ms(32, (32,), None) > 0, "64 times the work"
    assert times.attention_ms(heads) > 0
    ranks = [times.ms(*JOINT, rank) for rank in (2, 4)]
    assert 0 < ranks[0] <= ranks[1]


@pytest.mark.parametrize(("slow_ms", "warned"), [(1.2, False), (2.0, True)])
def test_a_busy_host_is_told(
    make_package: Make,
    cpu: Device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slow_ms: float,
    warned: bool,
) -> None:
    """Half of the calls take a millisecond, half take longer."""
    monkeypatch.setattr(
        "edgelr.plan.kernels.measure_rounds",
        lambda cases, *_, **__: {case.name: [1.0, 1.0, slow_ms, slow_ms, slow_ms] for case in cases},
    )
    conditions = Conditions(device=cpu, tokens=8, quantize=None, seconds=1.0)
    progress = Progress(quiet=True)
    times = measure_kernels([Kernel(8, (8,), None)], make_package(), conditions, tmp_path, progress)
    assert times.model_ms == 1.0
    assert any("this host is busy" in each for each in progress.warnings) is warned


def test_kernels_are_quantized_as_the_caller_says(make_package: Make, cpu: Device, tmp_path: Path) -> None:
    quantized: list[str] = []

    def quantize(source: Path, target: Path) -> None:
        quantize_matrices(source, target)
        quantized.append(target.name)

    conditions = Conditions(device=cpu, tokens=8, quantize=quantize, seconds=0.05)
    package = make_package(precision="int8-dynamic")
    times = measure_kernels(
        [Kernel(32, (32,), None), Kernel(32, (32,), 4), Attention(2, 8, 8)],
        package,
        conditions,
        tmp_path,
        QUIET,
    )
    assert times.precision == "int8-dynamic"
    assert quantized == ["32.32.dense.onnx", "32.32.4.onnx"], "attention has no weights"
    assert all(ms > 0 for ms in times.kernels_ms.values())
    assert not list(tmp_path.glob("*.fp32.onnx")), "what is not timed is not kept"
