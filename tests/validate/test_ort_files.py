"""ONNX Runtime's own format against the ONNX files of the same package."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.ort.stage import write_ort
from edgelr.progress import Progress
from edgelr.runtime.package import ORT, open_package
from edgelr.validate.ort_files import compare_ort_files

QUIET = Progress(quiet=True)


def test_a_package_without_them_has_nothing_to_compare(make_package: Callable[..., Package]) -> None:
    assert compare_ort_files(make_package(), 8) == ()


def test_what_is_equal_is_said_with_its_size(make_package: Callable[..., Package], tmp_path: Path) -> None:
    made = write_ort(make_package(), tmp_path / "made", QUIET)
    (note,) = compare_ort_files(made, 8)
    assert note.startswith(
        "ort/ computes what the ONNX files do, 1 - cosine at most 0.0e+00 (cpu-1t, run), in 0.0"
    )


def test_graphs_of_a_translator_are_compared_too(translation_package: Package, tmp_path: Path) -> None:
    (note,) = compare_ort_files(write_ort(translation_package, tmp_path / "made", QUIET), 8)
    assert "ort/ computes what the ONNX files do" in note


def test_another_graph_is_found(
    make_package: Callable[..., Package], write_package: Callable[..., Package], tmp_path: Path
) -> None:
    made = write_ort(make_package(), tmp_path / "made", QUIET)
    other = write_ort(write_package(tmp_path / "noisy", noise=0.5), tmp_path / "other", QUIET)
    shutil.copy(other.folder / ORT / "model.ort", made.folder / ORT / "model.ort")
    with pytest.raises(DamagedArtifactError, match=r"model\.ort computes something else than model\.onnx"):
        compare_ort_files(made, 8)


def test_a_file_that_is_gone_is_missed(make_package: Callable[..., Package], tmp_path: Path) -> None:
    made = write_ort(make_package(), tmp_path / "made", QUIET)
    (made.folder / ORT / "model.ort").unlink()
    with pytest.raises(DamagedArtifactError, match="does not exist"):
        compare_ort_files(made, 8)
    shutil.rmtree(made.folder / ORT)
    assert compare_ort_files(open_package(made.folder), 8) == (), "the folder may be deleted"
