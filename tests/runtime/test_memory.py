"""Free memory: of the machine, or of the container where that has less."""

import math
from pathlib import Path

import pytest

from edgelr.runtime import memory
from edgelr.runtime.memory import free_bytes


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    return tmp_path


def test_a_machine_says_how_much_there_is(system: Path) -> None:
    (system / "meminfo").write_text("MemTotal:  4000 kB\nMemFree:  1 kB\nMemAvailable:   3000 kB\n")
    assert free_bytes() == 3000 * 1024


def test_in_a_container_its_limit_counts_and_files_that_were_read_do_not(system: Path) -> None:
    (system / "meminfo").write_text("MemAvailable:   3000 kB\n")
    (system / "memory.max").write_text("1000000\n")
    (system / "memory.current").write_text("900000\n")
    (system / "memory.stat").write_text("anon 200000\nfile 700000\n")
    assert free_bytes() == 800_000
    (system / "memory.max").write_text("max\n")
    assert free_bytes() == 3000 * 1024


def test_a_system_that_says_nothing_has_no_limit(system: Path) -> None:
    assert free_bytes() == math.inf
