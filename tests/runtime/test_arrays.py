import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgelr.errors import DamagedArtifactError
from edgelr.runtime.arrays import arrays_file, read_arrays, write_arrays

ARRAYS = {"b": np.arange(6, dtype=np.float16).reshape(2, 3), "a": np.array([1, 2])}


class Payload:
    """Would make a file if it was ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_written_and_read_arrays_are_equal(tmp_path: Path) -> None:
    write_arrays(tmp_path / "x.npz", ARRAYS)
    read = read_arrays(tmp_path / "x.npz", ["a", "b"])
    assert set(read) == {"a", "b"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


def test_equal_arrays_are_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    write_arrays(tmp_path / "x.npz", ARRAYS)
    write_arrays(tmp_path / "y.npz", dict(reversed(ARRAYS.items())))
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()


def test_a_pickled_payload_is_refused_and_never_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    np.savez(tmp_path / "x.npz", passages=np.array([Payload(trap)], dtype=object))
    with pytest.raises(DamagedArtifactError, match=r"x\.npz cannot be read: .*allow_pickle"):
        read_arrays(tmp_path / "x.npz")
    assert not trap.exists()


def test_a_bare_pickle_is_refused_and_never_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    np.array([Payload(trap)], dtype=object).dump(tmp_path / "x.npz")
    with pytest.raises(DamagedArtifactError, match=r"x\.npz cannot be read"):
        read_arrays(tmp_path / "x.npz")
    assert not trap.exists()


@pytest.mark.parametrize("kept", [0, 10, 200, 400])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.npz"
    write_arrays(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedArtifactError, match=r"x\.npz cannot be read"):
        read_arrays(path)


def test_a_plain_array_is_not_a_named_one(tmp_path: Path) -> None:
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DamagedArtifactError, match=r"x\.npz cannot be read"):
        read_arrays(tmp_path / "x.npz")


def test_a_member_that_is_no_array_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("note.txt", "hello")
    assert read_arrays(tmp_path / "x.npz")["note.txt"].dtype.kind == "S"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'shape': (99999999999999,), }")
    with pytest.raises(DamagedArtifactError, match=r"x\.npz cannot be read"):
        read_arrays(tmp_path / "x.npz")


def test_missing_files_and_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match=r"x\.npz cannot be read"):
        read_arrays(tmp_path / "x.npz")
    write_arrays(tmp_path / "x.npz", ARRAYS)
    with pytest.raises(DamagedArtifactError, match="no array c"):
        read_arrays(tmp_path / "x.npz", ["a", "c"])


def test_arrays_written_one_by_one_are_read_as_any_others(tmp_path):
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a:x.weight": np.ones(3, np.float32)}
    for path in (tmp_path / "one.npz", tmp_path / "two.npz"):
        with arrays_file(path) as file:
            for name, array in arrays.items():
                file.append(name, array)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    read = read_arrays(tmp_path / "one.npz", required=tuple(arrays))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
