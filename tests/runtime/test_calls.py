from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelr.errors import DamagedArtifactError, DataError
from edgelr.runtime import calls
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.calls import read_calls, read_outputs, write_calls, write_outputs

ARRAYS = [{"a/b": np.arange(n, dtype=np.int64), "x": np.full((n, 2), n, np.float32)} for n in range(1, 5)]


def test_what_is_written_is_read_in_any_order(tmp_path: Path) -> None:
    made = write_calls(tmp_path, "test", ARRAYS)
    assert len({each.id for each in made}) == len({each.group for each in made}) == 4
    for order in ((0, 1, 2, 3), (3, 1)):
        found = read_calls(tmp_path, [made[number] for number in order])
        for number, call in zip(order, found, strict=True):
            assert set(call) == set(ARRAYS[number])
            for name, array in call.items():
                np.testing.assert_array_equal(array, ARRAYS[number][name])
    assert read_calls(tmp_path, []) == []


def test_the_same_arrays_are_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        write_calls(tmp_path / folder, "test", ARRAYS)
    one, other = (tmp_path / folder / "arrays" / "test.npz" for folder in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_more_than_fits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="the arrays of the train examples are more than 0 GiB after 3"):
        write_calls(tmp_path, "train", ARRAYS)


def test_an_example_without_arrays_is_named(tmp_path: Path) -> None:
    made = write_calls(tmp_path, "test", ARRAYS)
    with pytest.raises(DamagedArtifactError, match="nothing of 'test-000000'"):
        read_calls(tmp_path, [replace(made[0], entry="17")])
    with pytest.raises(DamagedArtifactError, match="is not in arrays/"):
        read_calls(tmp_path, [replace(made[0], file="/etc/x.npz")])
    with pytest.raises(DataError, match="were taken out"):
        read_calls(tmp_path / "other", made)


def test_outputs_are_kept(tmp_path: Path) -> None:
    write_outputs(tmp_path, ARRAYS, np.arange(4.0))
    found, metric = read_outputs(tmp_path, 4)
    np.testing.assert_array_equal(found[2]["x"], ARRAYS[2]["x"])
    np.testing.assert_array_equal(metric, np.arange(4.0))
    write_outputs(tmp_path, ARRAYS, None)
    assert read_outputs(tmp_path, 4)[1] is None


def test_outputs_of_other_examples_are_named(tmp_path: Path) -> None:
    write_outputs(tmp_path, ARRAYS, None)
    with pytest.raises(DamagedArtifactError, match="4 dense outputs do not fit 5 examples"):
        read_outputs(tmp_path, 5)
    write_outputs(tmp_path, ARRAYS, np.arange(3.0))
    with pytest.raises(DamagedArtifactError, match="do not fit"):
        read_outputs(tmp_path, 4)
    write_arrays(tmp_path / "arrays" / "outputs.npz", {"y": np.zeros(1)})
    with pytest.raises(DamagedArtifactError, match="do not fit"):
        read_outputs(tmp_path, 4)
