from pathlib import Path

from edgelr.pipeline import build


def test_two_builds_from_empty_stores_give_the_same_bytes(built: Path, tmp_path: Path):
    again = build(built / "tiny.yaml", tmp_path / "tiny")
    assert again.package is not None
    first = built / "tiny" / "package"
    names = {path.name for path in first.iterdir()}
    assert names == {path.name for path in again.package.iterdir()}
    assert [n for n in names if (first / n).read_bytes() != (again.package / n).read_bytes()] == []
