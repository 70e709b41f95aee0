import math

import pytest

from edgelr.compare.protocol import QUANTITIES, measure_restart, profile_operators
from edgelr.compare.sides import common_inputs, open_side
from edgelr.errors import EdgelrError


def test_a_restart_gives_a_log_ratio_of_everything(one_layer, cpu):
    base, candidate = open_side("base", one_layer(2)), open_side("candidate", one_layer(40))
    inputs = common_inputs(base, candidate, 1, {"tokens": 64})
    found = measure_restart(base, candidate, cpu, inputs, seed=0)
    assert set(found.candidate) == set(found.twin) == set(QUANTITIES)
    assert found.candidate["p50"] > math.log(3)  # twenty times the work
    assert abs(found.twin["p50"]) < math.log(3)
    assert found.candidate["p50"] == pytest.approx(math.log(found.p50_ms[1] / found.p50_ms[0]))


def test_a_profile_tells_operators_apart(one_layer, cpu):
    small, large = open_side("base", one_layer(2)), open_side("candidate", one_layer(40))
    inputs = common_inputs(small, large, 1, {"tokens": 64})
    before, after = (profile_operators(side, cpu, inputs) for side in (small, large))
    assert set(before) == set(after) == {"MatMul"}
    assert after["MatMul"] > 3 * before["MatMul"] > 0


def test_the_side_that_fails_is_named(one_layer, tmp_path, cpu):
    base = open_side("base", one_layer(1))
    broken = open_side("candidate", one_layer(2))
    inputs = common_inputs(base, broken, 1, {"tokens": 4})
    broken.model.write_bytes(broken.model.read_bytes()[:40])
    with pytest.raises(EdgelrError, match=r"candidate \(.*2\.onnx\) on cpu-1t") as caught:
        measure_restart(base, broken, cpu, inputs, seed=0)
    assert caught.value.exit_code == 12
