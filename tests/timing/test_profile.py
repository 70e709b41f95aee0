from pathlib import Path

import numpy as np

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.kinds.translation import timed_inputs
from edgelr.timing.feeds import feeds
from edgelr.timing.profile import operator_times
from edgelr.timing.translation import TimedTranslation


def test_operators_of_all_graphs_add_up_to_a_call(
    dense_translator: Package, cpu: Device, tmp_path: Path
) -> None:
    timed = TimedTranslation(dense_translator.folder, cpu, profile=tmp_path / "profile")
    given = feeds(timed_inputs(dense_translator, 8))
    for _ in range(5):
        timed.run(None, given)
    found = operator_times(timed.sessions, 5)
    assert {name.split()[0] for name in found} == {"encoder", "decoder"}
    assert min(found.values()) > 0
    whole = np.median(timed.noted["encoder_ms"]) + np.median(timed.noted["decoder_ms"])
    assert sum(found.values()) < 5 * whole, "a call, not all of them"
    assert list(tmp_path.iterdir()) == []
