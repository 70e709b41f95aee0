import gzip
import io
import os
import shutil
import tarfile

import pytest

from edgelr.compare.baseline import load_baseline, save_baseline
from edgelr.errors import DamagedArtifactError, UsageError
from edgelr.runtime.package import open_package


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_package_comes_back_as_it_was(package, tmp_path):
    (package.folder / "session.json").write_text("{}", encoding="utf-8")
    file = tmp_path / "kept" / "base.tar.gz"
    assert save_baseline(package.folder, file) == file.stat().st_size
    found = load_baseline(file, tmp_path / "base")
    assert content(found) == content(package.folder)
    assert open_package(found).files == package.files


def test_the_same_package_is_the_same_bytes(package, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(package.folder, copy)
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    for folder, name in ((package.folder, "a.tar.gz"), (copy, "b.tar.gz")):
        save_baseline(folder, tmp_path / name)
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()


def test_what_the_store_wrote_stays_there(package, tmp_path):
    (package.folder / "manifest.json").write_text("{}", encoding="utf-8")
    save_baseline(package.folder, tmp_path / "a.tar.gz")
    assert not (load_baseline(tmp_path / "a.tar.gz", tmp_path / "out") / "manifest.json").exists()


def test_a_changed_package_is_not_saved(package, tmp_path):
    with (package.folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedArtifactError, match="was changed"):
        save_baseline(package.folder, tmp_path / "a.tar.gz")
    assert list(tmp_path.glob("*.tar.gz*")) == list(tmp_path.glob(".*")) == []


def test_a_folder_in_use_is_left_alone(package, tmp_path):
    save_baseline(package.folder, tmp_path / "a.tar.gz")
    with pytest.raises(UsageError, match="there is something already"):
        load_baseline(tmp_path / "a.tar.gz", package.folder)
    with pytest.raises(UsageError, match="there is no baseline at"):
        load_baseline(tmp_path / "none.tar.gz", tmp_path / "out")


def archive(path, *entries):
    with tarfile.open(path, "w:gz") as file:
        for name, data, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(data)
            entry.linkname = "/etc/passwd"
            file.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "entry",
    [
        ("../outside", b"x", tarfile.REGTYPE),
        ("link", b"", tarfile.SYMTYPE),
        ("device", b"", tarfile.CHRTYPE),
        ("other.txt", b"x", tarfile.REGTYPE),
    ],
)
def test_a_strangers_file_reaches_nothing(entry, tmp_path):
    with pytest.raises(DamagedArtifactError):
        load_baseline(archive(tmp_path / "evil.tar.gz", entry), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"evil.tar.gz"}


# Named: gzip writes the time into its bytes, and two workers would give the test two names.
@pytest.mark.parametrize(
    "damage",
    [b"", b"no archive", gzip.compress(b"x" * 2000)],
    ids=["empty", "no archive", "gzip of no archive"],
)
def test_a_damaged_file_is_named(damage, tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(damage)
    with pytest.raises(DamagedArtifactError, match=r"a\.tar\.gz"):
        load_baseline(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_half_a_file_is_damaged(package, tmp_path):
    save_baseline(package.folder, tmp_path / "a.tar.gz")
    whole = (tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedArtifactError, match="cannot be unpacked"):
        load_baseline(tmp_path / "a.tar.gz", tmp_path / "out")
