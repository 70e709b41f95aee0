from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgelr.errors import DamagedArtifactError, DataError
from edgelr.examples import Example
from edgelr.quantize.calibration import (
    data_of_source,
    read_feeds,
)
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.graph import describe_graph


def test_splits_of_a_source(make_package):
    rows = [
        Example(id=name, group="g", query="a file", passage=name) for name in ("calibration", "validation")
    ]
    source = SimpleNamespace(
        examples=lambda split, _: tuple(row for row in rows if row.id == split), folder=Path("source")
    )
    data = data_of_source(make_package(), source)
    assert [row.id for row in data.validation] == ["validation"]
    assert len(data.feeds["model"]) == 2


@pytest.mark.parametrize("names", [("x", "ids"), ("x.0", "ids.0"), ("x.7", "ids.7")])
def test_arrays_are_called_as_inputs(make_tiny, tmp_path, names):
    tiny = make_tiny("tied")
    arrays = dict(zip(names, tiny.feeds[0].values(), strict=True))
    write_arrays(tmp_path / "inputs.npz", {**arrays, "embedding.0": np.zeros(3)})
    (given,) = read_feeds(tmp_path / "inputs.npz", describe_graph(tiny.path))
    np.testing.assert_array_equal(given["x"], tiny.feeds[0]["x"])


def test_the_parity_cases_of_a_package_will_do(make_package):
    package = make_package()
    assert len(read_feeds(package.folder / "reference.npz", package.graphs["model"])) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((3, 64), np.nan, np.float32)}, "call 0: 'x' has NaN or infinity in it"),
        (
            {"x": np.zeros((3, 63), np.float32)},
            r"call 0: 'x' is float32 \[3, 63\], tied.onnx wants float32",
        ),
        ({"x": np.zeros(64, np.float32)}, r"is float32 \[64\]"),
        ({"x": np.zeros((3, 64))}, r"is float64 \[3, 64\]"),
        ({"x": None}, "call 0 has no array 'x'"),
        ({"x": None, "ids": None}, "no calibration data for tied.onnx"),
    ],
)
def test_what_does_not_fit(make_tiny, tmp_path, change, message):
    tiny = make_tiny("tied")
    arrays = {name: array for name, array in {**tiny.feeds[0], **change}.items() if array is not None}
    write_arrays(tmp_path / "inputs.npz", {**arrays, "other": np.zeros(1)})
    with pytest.raises(DataError, match=message):
        read_feeds(tmp_path / "inputs.npz", describe_graph(tiny.path))


def test_what_is_no_npz(make_tiny, tmp_path):
    (tmp_path / "inputs.npz").write_text("no arrays", encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match="cannot be read"):
        read_feeds(tmp_path / "inputs.npz", describe_graph(make_tiny("dense").path))
