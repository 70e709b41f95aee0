"""The worker, run by this host's own Python: its messages are the same on any processor."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.runners.frames import pack, read
from edgelr.runtime.package import model_path

ROOT = Path(__file__).parents[2]
OPEN = {"do": "open", "threads": 1, "level": "ORT_ENABLE_ALL"}
RECORD = {"session.record_ep_graph_assignment_info": "1"}


@pytest.fixture
def worker() -> Any:
    command = [sys.executable, "-m", "edgelr.runners.graph_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        yield process


def ask(worker: Any, header: dict[str, Any], arrays: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    worker.stdin.write(pack(header, arrays))
    worker.stdin.flush()
    answer = read(worker.stdout)
    assert answer is not None
    return answer


def test_it_opens_runs_and_says_what_is_wrong(worker: Any, make_package: Callable[..., Package]) -> None:
    path = str(model_path(make_package()))
    told, _ = ask(worker, {**OPEN, "model": path, "entries": RECORD}, {})
    assert [name for name, _, _ in told["inputs"]] == ["input_ids", "attention_mask"]
    assert sum(len(nodes) for _, nodes in told["parts"]) == 12
    ones = np.ones((2, 3), np.int64)
    feeds = {"input_ids": ones, "attention_mask": ones}
    _, results = ask(worker, {"do": "run", "names": ["embedding"]}, feeds)
    np.testing.assert_allclose(np.linalg.norm(results["embedding"], axis=1), 1, atol=1e-5)
    wrong, _ = ask(worker, {"do": "run", "names": ["embedding"]}, {"input_ids": ones})
    assert "attention_mask" in wrong["error"]
    gone, _ = ask(worker, {**OPEN, "model": "/gone.onnx", "entries": {}}, {})
    assert "/gone.onnx" in gone["error"]


def test_it_ends_with_its_input(worker: Any) -> None:
    worker.stdin.close()
    assert worker.wait(60) == 0
