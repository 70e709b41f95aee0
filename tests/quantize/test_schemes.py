from typing import get_args

import onnx
import pytest

from edgelr.device.schema import Precision
from edgelr.quantize.dynamic import unquantized_matrices
from edgelr.quantize.schemes import quantizer
from edgelr.recipe.quantize import Scheme


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_every_scheme_quantizes_every_matrix_of_a_factored_graph(scheme, built, tmp_path):
    for source in (built / ".store" / "export").glob("*/model.onnx"):
        quantizer(scheme, 32)(source, tmp_path / "q.onnx")
        before, after = onnx.load(source), onnx.load(tmp_path / "q.onnx")
        assert unquantized_matrices(before)
        assert unquantized_matrices(after) == []


def test_devices_know_every_scheme():
    assert set(get_args(Precision)) == {"fp32", *get_args(Scheme)}
