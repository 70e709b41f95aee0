import json
from pathlib import Path

import numpy as np
import pytest
from array_packages import IN, OUT, calls, write_array_package

from edgelr.artifacts import Package
from edgelr.cli import cli
from edgelr.device.schema import Device
from edgelr.errors import DataError, UsageError
from edgelr.runtime.arrays import read_arrays
from edgelr.terminal import run_command
from edgelr.use_arrays import run_files


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return write_array_package(tmp_path / "package")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    np.savez(tmp_path / "inputs.npz", x=calls()[0]["x"], other=np.zeros(1))
    return tmp_path / "inputs.npz"


def test_a_file_in_a_file_out(
    package: Package, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = read_arrays(package.folder / "reference.npz")
    out = tmp_path / "outputs.npz"
    arguments = ["run", str(package.folder), str(inputs), "--out", str(out), "--json"]
    assert run_command(cli, arguments) == 0
    printed = capsys.readouterr()
    (row,) = json.loads(printed.out.splitlines()[-1])["outputs"]
    assert row["arrays"]["y"]["shape"] == [2, OUT]
    assert row["arrays"]["winner"] == {"dtype": "int64", "shape": [2], "values": stored["winner.0"].tolist()}
    written = read_arrays(out)
    np.testing.assert_array_equal(written["y"], stored["y.0"])
    assert "y float32 [2, 4]" in printed.err


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.zeros((2, IN), np.float32)}, r"inputs.npz has no array 'x', only z"),
        ({"x": np.zeros((2, IN))}, r"'x' is float64 \[2, 8\], model.onnx wants float32 \['batch', 8\]"),
        ({"x": np.zeros((2, 3), np.float32)}, r"'x' is float32 \[2, 3\]"),
        ({"x": np.full((2, IN), np.inf, np.float32)}, "NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_named(
    package: Package, cpu: Device, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "inputs.npz", **arrays)
    with pytest.raises(DataError, match=message):
        run_files(package, [str(tmp_path / "inputs.npz")], cpu)


def test_what_is_no_npz_is_named(package: Package, cpu: Device, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(DataError, match=r"text.npz cannot be read[\s\S]*with the arrays x"):
        run_files(package, [str(tmp_path / "text.npz")], cpu)


def test_inputs_and_outputs_must_be_clear(
    package: Package, inputs: Path, cpu: Device, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="there is no input"):
        run_files(package, [], cpu)
    with pytest.raises(UsageError, match="--out is for the outputs of one input, 2 are given"):
        run_files(package, [str(inputs)] * 2, cpu, out=tmp_path / "o.npz")
    with pytest.raises(UsageError, match=r"o.txt is no .npz file[\s\S]*o\.npz"):
        run_files(package, [str(inputs)], cpu, out=tmp_path / "o.txt")
