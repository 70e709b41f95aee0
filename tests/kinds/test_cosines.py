import numpy as np
import pytest

from edgelr.errors import QuantizeError
from edgelr.kinds.cosines import cosines


def test_a_cosine_a_row() -> None:
    one = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]], np.float32)
    other = np.array([[2.0, 0.0], [-3.0, -4.0], [1.0, -1.0]], np.float32)
    assert cosines(one, other, "model.onnx") == pytest.approx([1, -1, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_names_its_graph(value: float) -> None:
    rows = np.ones((2, 3), np.float32)
    with pytest.raises(QuantizeError, match=r"model\.onnx: the quantized graph gives values that are not"):
        cosines(rows, rows * value, "model.onnx")
