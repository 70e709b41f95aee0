from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgelr.artifacts import Package
from edgelr.runtime.package import open_package
from edgelr.runtime.package_copy import copy_files, seal_again


def test_a_copy_that_is_sealed_again_is_the_same_package(
    make_package: Callable[..., Package], tmp_path: Path
) -> None:
    package = make_package()
    copy_files(package, tmp_path / "copy")
    copy = seal_again(package, tmp_path / "copy")
    assert open_package(copy.folder) == copy == replace(package, folder=copy.folder)


def test_what_is_different_is_in_its_manifest(make_package: Callable[..., Package], tmp_path: Path) -> None:
    package = make_package()
    copy_files(package, tmp_path, [file for file in package.files if file != "reference.npz"])
    changed = seal_again(replace(package, accuracy={"cosine": 0.5}), tmp_path)
    assert open_package(tmp_path).accuracy == {"cosine": 0.5}
    assert set(package.files) - set(changed.files) == {"reference.npz"}
