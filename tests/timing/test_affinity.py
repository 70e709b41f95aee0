import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgelr.timing import affinity
from edgelr.timing.affinity import choose_cpus, pin

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")


def usable(monkeypatch: pytest.MonkeyPatch, cpus: set[int]) -> None:
    monkeypatch.setattr(affinity.os, "sched_getaffinity", lambda pid: cpus)


def siblings(folder: Path, *cores: tuple[int, ...]) -> Path:
    for core in cores:
        for cpu in core:
            (folder / f"cpu{cpu}" / "topology").mkdir(parents=True)
            text = ",".join(map(str, core)) + "\n"
            (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(text, encoding="ascii")
    return folder


def test_other_cores_come_before_siblings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable(monkeypatch, set(range(8)))
    topology = siblings(tmp_path, (0, 4), (1, 5), (2, 6), (3, 7))
    assert choose_cpus(1, topology) == [7]
    assert choose_cpus(4, topology) == [4, 5, 6, 7]
    assert choose_cpus(5, topology) == [3, 4, 5, 6, 7]


def test_only_what_may_be_used_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable(monkeypatch, {2, 3, 5})
    assert choose_cpus(2, tmp_path) == [3, 5]
    assert choose_cpus(3, tmp_path) == [], "all of them: there is nothing to choose"


def test_a_process_and_its_threads_stay_where_they_are_put() -> None:
    cpus = [min(os.sched_getaffinity(0))]
    code = (
        "import os, threading; from edgelr.timing.affinity import pin\n"
        f"assert pin({cpus})\n"
        "thread = threading.Thread(target=lambda: print(sorted(os.sched_getaffinity(0))))\n"
        "thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(cpus)


def test_what_is_not_allowed_is_said_and_not_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, cpus: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(affinity.os, "sched_setaffinity", refuse)
    assert not pin([0])
    assert not pin([])
