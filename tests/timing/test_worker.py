import gc
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.kinds.translation import timed_inputs
from edgelr.runtime.package import model_path
from edgelr.timing.worker import SETTLING_CALLS, serve, time_calls, warm_up
from edgelr.validate.placement import RECORD

INPUTS = {"input_ids": [[2, 5, 6, 3]], "attention_mask": [[1, 1, 1, 1]]}
FEEDS = {name: np.array(values, np.int64) for name, values in INPUTS.items()}


def opening(package: Package, device: Device) -> dict[str, Any]:
    return {
        "do": "open",
        "model": str(model_path(package)),
        "device": asdict(device),
        "entries": {},
    }


def conversation(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    replies = io.StringIO()
    serve(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_it_opens_warms_up_times_and_says_its_memory(
    make_package: Callable[..., Package], cpu: Device
) -> None:
    opened, warm, timed, memory = conversation(
        opening(make_package(), cpu),
        {"do": "warm", "inputs": INPUTS, "seconds": 0.2},
        {"do": "time", "inputs": INPUTS, "seconds": 0.01},
        {"do": "memory"},
    )
    assert opened["load_ms"] > 0
    assert opened["threads"] == 1
    assert warm["calls"] >= 1
    assert timed["times_ms"]
    assert min(timed["times_ms"]) > 0
    assert memory["peak_bytes"] > 2**20


def test_a_call_may_be_a_whole_translation(
    dense_translator: Package, make_package: Callable[..., Package], cpu: Device
) -> None:
    """Next to graphs that are timed one by one."""
    whole = {"do": "open", "device": asdict(cpu), "session": "whole"}
    given = timed_inputs(dense_translator, 12)
    opened, _, warm, timed, graph, memory = conversation(
        {**whole, "translation": str(dense_translator.folder)},
        opening(make_package(), cpu),
        {"do": "warm", "session": "whole", "inputs": given, "seconds": 0.3},
        {"do": "time", "session": "whole", "inputs": given, "seconds": 0.05},
        {"do": "time", "inputs": INPUTS, "seconds": 0.01},
        {"do": "memory", "session": "whole"},
    )
    assert opened["threads"] == 1
    assert warm["calls"] >= 1
    assert len(timed["noted"]["first_ms"]) == len(timed["times_ms"]) > 0
    assert all(
        0 < one < all_ for one, all_ in zip(timed["noted"]["first_ms"], timed["times_ms"], strict=True)
    )
    assert graph["noted"] == {}, "a graph has no first token"
    assert memory["peak_bytes"] > 2**20


def test_a_translation_that_fails_is_a_reply(dense_translator: Package, cpu: Device) -> None:
    whole = {"do": "open", "device": asdict(cpu), "translation": str(dense_translator.folder)}
    too_many = {**timed_inputs(dense_translator, 4), "new_tokens": 100}
    lost, _, failed = conversation(
        {**whole, "translation": "/nowhere"}, whole, {"do": "warm", "inputs": too_many, "seconds": 0.1}
    )
    assert lost["error"]["exit"] == 2
    assert failed["error"]["exit"] == 4
    assert "the graph 'decoder'" in failed["error"]["found"]


def test_a_failure_is_a_reply_and_the_worker_goes_on(
    make_package: Callable[..., Package], cpu: Device
) -> None:
    package = make_package()
    lost = {**opening(package, cpu), "model": "/nowhere/model.onnx"}
    failed, opened, wrong, memory = conversation(
        lost, opening(package, cpu), {"do": "time", "inputs": INPUTS, "seconds": 0.0}, {"do": "memory"}
    )
    assert failed["error"]["exit"] == 12
    assert "/nowhere/model.onnx" in failed["error"]["found"]
    assert "threads" in opened
    assert len(wrong["times_ms"]) == 1, "at least one call, however short the time"
    assert "peak_bytes" in memory
    *_, bad_input = conversation(
        opening(package, cpu), {"do": "warm", "inputs": {"input_ids": [[1]]}, "seconds": 0.1}
    )
    assert bad_input["error"]["exit"] == 4


def test_it_gets_ready_on_the_cores_it_is_given(make_package: Callable[..., Package], cpu: Device) -> None:
    """No core is given here: this process is that of the tests."""
    ready, opened, first = conversation(
        {"do": "ready", "cpus": []}, opening(make_package(), cpu), {"do": "first", "inputs": INPUTS}
    )
    assert ready == {"pinned": False}
    assert "threads" in opened
    assert first["first_ms"] > 0


def test_it_says_where_nodes_run_and_what_operators_take(
    dense_translator: Package, make_package: Callable[..., Package], cpu: Device
) -> None:
    package = make_package()
    _, placed = conversation({**opening(package, cpu), "entries": RECORD}, {"do": "placement"})
    assert set(placed["nodes"].values()) <= {"CPUExecutionProvider"}
    whole = {"do": "open", "device": asdict(cpu), "translation": str(dense_translator.folder)}
    given = timed_inputs(dense_translator, 4)
    _, profiled = conversation(
        {**whole, "entries": {}, "profile": True}, {"do": "profile", "inputs": given, "seconds": 0.05}
    )
    assert {name.split()[0] for name in profiled["ms"]} == {"encoder", "decoder"}


def test_an_unknown_request_is_a_bug(make_package: Callable[..., Package], cpu: Device) -> None:
    with pytest.raises(ValueError, match="unknown request 'dance'"):
        conversation(opening(make_package(), cpu), {"do": "dance"})


def test_sessions_have_names_and_inputs_may_be_random_floats(
    make_package: Callable[..., Package], cpu: Device, tmp_path: Path
) -> None:
    names = ("x", "y")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 2]) for name in names]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", values[:1], values[1:])
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "g.onnx")
    package = make_package()
    opened = {**opening(package, cpu), "session": "model"}
    small = {**opening(package, cpu), "session": "small", "model": str(tmp_path / "g.onnx")}
    floats = {"x": {"normal": [1, 3, 2]}}
    *_, first, second = conversation(
        opened,
        small,
        {"do": "time", "session": "small", "inputs": floats, "seconds": 0.001},
        {"do": "time", "session": "model", "inputs": INPUTS, "seconds": 0.001},
    )
    assert first["times_ms"]
    assert second["times_ms"]


class Counting:
    """A session that counts its calls and sees whether the garbage collector is on."""

    def __init__(self, session: Any) -> None:
        self.session, self.collecting = session, []

    def run(self, outputs: list[str] | None, feeds: dict[str, Any]) -> Any:
        self.collecting.append(gc.isenabled())
        return self.session.run(outputs, feeds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


def test_the_collector_is_off_while_timing_and_on_again(
    make_package: Callable[..., Package], cpu: Device
) -> None:
    session = Counting(open_session(model_path(make_package()), cpu, entries={}))
    times = time_calls(session, FEEDS, seconds=0.005)  # type: ignore[arg-type]
    assert session.collecting == [False] * (len(times) + SETTLING_CALLS)
    assert gc.isenabled()


def test_warm_up_ends_at_its_cap(make_package: Callable[..., Package], cpu: Device) -> None:
    session = Counting(open_session(model_path(make_package()), cpu, entries={}))
    assert warm_up(session, FEEDS, seconds=0.0) == {"calls": 1, "settled": False}  # type: ignore[arg-type]
    assert len(session.collecting) == 1


def test_the_worker_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, edgelr.timing.worker; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_a_library_prints_cannot_spoil_a_reply(
    make_package: Callable[..., Package], cpu: Device
) -> None:
    code = (
        "import edgelr.timing.worker as worker; opened = worker.open_timed\n"
        "def noisy(request):\n    print('hello from a library', flush=True)\n    return opened(request)\n"
        "worker.open_timed = noisy; worker.main()"
    )
    request = json.dumps(opening(make_package(), cpu)) + "\n"
    done = subprocess.run(
        [sys.executable, "-c", code], input=request, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["threads"] == 1
    assert "hello from a library" in done.stderr
