"""The lists next to a recommender."""

from pathlib import Path

import pytest

from edgelr.errors import DamagedArtifactError
from edgelr.runtime.catalog import read_catalog, write_catalog


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_catalog(tmp_path, ["ann", "bob\u2028 b"], ["1", "2"], {"2": "Two, and \x85 more"})
    found = read_catalog(tmp_path)
    assert found.users == {"ann": 0, "bob\u2028 b": 1}, "only a newline ends a line"
    assert found.items == {"1": 0, "2": 1}
    assert list(found.titles) == ["1", "Two, and \x85 more"]


def test_a_name_that_comes_twice_and_a_missing_list(tmp_path: Path) -> None:
    write_catalog(tmp_path, ["ann", "bob", "ann"], ["1"], {})
    with pytest.raises(DamagedArtifactError, match=r"users\.txt:3: 'ann' is listed twice"):
        read_catalog(tmp_path)
    (tmp_path / "items.txt").unlink()
    write_catalog(tmp_path, ["ann"], ["1"], {})
    (tmp_path / "items.txt").write_bytes(b"\xff")
    with pytest.raises(DamagedArtifactError, match=r"items\.txt cannot be read"):
        read_catalog(tmp_path)
