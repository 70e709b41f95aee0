import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from edgelr.compare import protocol
from edgelr.compare.protocol import measure_restart, placement, profile_operators, ratios_of
from edgelr.errors import EdgelrError, ExportError
from edgelr.timing.process import LostProcessError, running_worker

QUANTITIES = {"p50", "p90", "first_call", "load", "memory"}


def test_a_restart_gives_a_log_ratio_of_everything(one_layer, setup_of):
    found = measure_restart(setup_of(one_layer(2), one_layer(40)), seed=0)
    assert set(found.candidate) == set(found.twin) == QUANTITIES
    assert found.candidate["p50"] > math.log(3)  # twenty times the work
    assert abs(found.twin["p50"]) < math.log(3)
    assert set(found.times_ms) == {"base", "candidate", "twin"}
    assert all(min(map(min, blocks)) > 0 for blocks in found.times_ms.values())
    assert not found.pinned, "no cores were chosen"
    assert "load_1min" in found.host


def test_a_machine_that_slows_down_within_a_restart_changes_no_ratio():
    """A tenth slower than base and twin in every turn, while turn after turn takes longer."""
    turns = [1.0, 1.5, 1.3, 2.0, 4.0, 9.0]
    sides = {"base": 1.0, "candidate": 1.1, "twin": 1.0}
    times = {
        side: [[turn * each * noise for noise in (0.9, 1, 3)] for turn in turns]
        for side, each in sides.items()
    }
    assert ratios_of(times) == pytest.approx((math.log(1.1), 0.0))


def test_base_and_twin_are_both_the_base():
    times = {"base": [[0.9]], "candidate": [[1.2]], "twin": [[1.6]]}
    candidate, twin = ratios_of(times)
    assert candidate == pytest.approx(0.0), "1.2 is the geometric mean of 0.9 and 1.6"
    assert twin == pytest.approx(math.log(16 / 9))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_processes_stay_on_the_cores_that_were_chosen(one_layer, setup_of):
    cpus = (max(os.sched_getaffinity(0)),)
    assert measure_restart(setup_of(one_layer(2), one_layer(2), cpus=cpus), seed=0).pinned
    assert len(os.sched_getaffinity(0)) >= 1


def test_of_a_whole_task_every_graph_is_timed(dense_translator, setup_of):
    setup = setup_of(dense_translator.folder, dense_translator.folder)
    found = measure_restart(setup, seed=0)
    assert set(found.candidate) == QUANTITIES | {"first_token", "encoder", "decoder"}
    assert set(profile_operators(setup, setup.base)) >= {"encoder MatMul", "decoder MatMul"}


def test_a_profile_tells_operators_apart(one_layer, setup_of):
    setup = setup_of(one_layer(2), one_layer(40))
    before, after = (profile_operators(setup, side) for side in (setup.base, setup.candidate))
    assert set(before) == set(after) == {"MatMul"}
    assert after["MatMul"] > 3 * before["MatMul"] > 0


def test_placement_names_every_node(one_layer, setup_of):
    setup = setup_of(one_layer(2), one_layer(2))
    assert placement(setup, setup.base) == {
        "layer.0 (MatMul)": "CPUExecutionProvider",
        "layer.1 (MatMul)": "CPUExecutionProvider",
    }


def test_the_side_that_cannot_be_opened_is_named(one_layer, setup_of):
    setup = setup_of(one_layer(1), one_layer(2))
    setup.candidate.path.write_bytes(setup.candidate.path.read_bytes()[:40])
    with pytest.raises(EdgelrError, match=r"candidate \(.*2\.onnx\) on cpu-1t") as caught:
        measure_restart(setup, seed=0)
    assert caught.value.exit_code == 12


def test_the_side_that_fails_on_its_inputs_is_named(one_layer, setup_of):
    setup = setup_of(one_layer(1), one_layer(2), inputs={"x": {"normal": [4, 100]}})
    with pytest.raises(ExportError, match=r"candidate \(.*2\.onnx\) on cpu-1t: ONNX Runtime fails"):
        placement(setup, setup.candidate)


def worker(monkeypatch, code: str) -> None:
    """Put a program in the place of the worker of the candidate."""

    @contextmanager
    def started(label):
        command = {"command": [sys.executable, "-c", code]} if label.startswith("candidate") else {}
        with running_worker(label, **command) as one:
            yield one

    monkeypatch.setattr(protocol, "running_worker", started)


ANSWERS = """
import json, sys
replies = {"ready": {"pinned": False}, "open": {"load_ms": 1.0}, "first": {"first_ms": 1.0},
           "warm": {"settled": True}, "memory": {"peak_bytes": 1}}
for line in sys.stdin:
    do = json.loads(line)["do"]
    if do == "time":
        AT_TIME
    print(json.dumps(replies[do]), flush=True)
"""


def test_a_side_that_hangs_is_named_when_the_time_is_over(one_layer, setup_of, monkeypatch):
    worker(monkeypatch, ANSWERS.replace("AT_TIME", "import time; time.sleep(600)"))
    start = time.monotonic()
    with pytest.raises(ExportError, match=r"candidate .*: no answer to 'time' after"):
        measure_restart(setup_of(one_layer(1), one_layer(1), patience_s=3.0), seed=0)
    assert time.monotonic() - start < 60


def test_a_process_that_is_killed_in_the_middle_is_lost(one_layer, setup_of, monkeypatch):
    worker(monkeypatch, ANSWERS.replace("AT_TIME", "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(LostProcessError, match=rf"candidate .*{signal.SIGKILL.name} at 'time'"):
        measure_restart(setup_of(one_layer(1), one_layer(1)), seed=0)


def test_a_process_that_dies_in_its_first_call_is_no_bad_luck(one_layer, setup_of, monkeypatch):
    worker(
        monkeypatch,
        ANSWERS.replace('if do == "time"', 'if do == "first"').replace("AT_TIME", "raise SystemExit(3)"),
    )
    setup = setup_of(one_layer(1), one_layer(1))
    with pytest.raises(ExportError, match=r"candidate .*exit code 3 at 'first'"):
        placement(setup, setup.candidate)


def test_a_clock_that_goes_back_is_seen(one_layer, setup_of, monkeypatch):
    worker(monkeypatch, ANSWERS.replace("AT_TIME", "replies[do] = {'times_ms': [-5.0], 'noted': {}}"))
    with pytest.raises(LostProcessError, match=r"candidate .*a time is -5 ms: the clock jumped"):
        measure_restart(setup_of(one_layer(1), one_layer(1)), seed=0)


def test_no_duration_is_taken_from_the_clock_on_the_wall():
    """It is set by hand and by the network; the monotonic clocks are not."""
    import edgelr.compare
    import edgelr.timing

    folders = [str(package.__path__[0]) for package in (edgelr.compare, edgelr.timing)]
    done = subprocess.run(
        ["grep", "-rnE", r"time\.time\(", *folders], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
