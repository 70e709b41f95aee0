import subprocess
import sys

import numpy as np

from edgelr.timing.memory import _resource_peak_bytes, peak_resident_bytes

MIB = 2**20
CHILD = "from edgelr.timing.memory import peak_resident_bytes; print(peak_resident_bytes())"


def test_the_peak_stays_after_the_memory_is_given_back() -> None:
    before = peak_resident_bytes()
    np.ones(64 * MIB, np.uint8).sum()
    after = peak_resident_bytes()
    assert after >= before
    assert after >= 64 * MIB
    assert peak_resident_bytes() >= after


def test_a_child_does_not_inherit_the_peak_of_its_parent() -> None:
    held = np.ones(256 * MIB, np.uint8)
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert held.nbytes == 256 * MIB
    assert 0 < int(done.stdout) < 128 * MIB, "a bare interpreter needs some 20 MiB"


def test_where_there_is_no_proc_the_resource_module_says_it() -> None:
    assert _resource_peak_bytes() > MIB
