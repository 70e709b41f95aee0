"""What the driver says; there was no GPU where this was written, so another program stands for the driver."""

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgelr.device.nvidia import count_gpus


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelr.device.nvidia._DRIVER", "libno-such-driver.so.1")
    assert count_gpus() == 0


@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="there is no NVIDIA GPU")
def test_a_gpu_is_found_where_there_is_one() -> None:
    assert count_gpus() > 0


@pytest.mark.parametrize(("started", "asked", "found"), [(0, 0, 2), (100, 0, 0), (0, 3, 0)])
def test_a_driver_is_asked(monkeypatch: pytest.MonkeyPatch, started: int, asked: int, found: int) -> None:
    def count(target: Any) -> int:
        target._obj.value = 2
        return asked

    driver = SimpleNamespace(cuInit=lambda flags: started, cuDeviceGetCount=count)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert count_gpus() == found
