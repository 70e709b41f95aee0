"""Stored texts of the dense model; see also ``test_translations.py`` and ``test_transcripts.py``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.kinds.outputs import dense_texts
from edgelr.runtime.arrays import write_arrays


@pytest.fixture
def package(make_package: Any) -> Package:
    made: Package = make_package()
    return made


def store(package: Package, content: bytes) -> None:
    write_arrays(package.folder / "reference.npz", {"dense_outputs": np.frombuffer(content, np.uint8)})


@pytest.mark.parametrize("lines", [["one"], ["", ""], ["a", "", "ü \u2028 x", "\x85"]])
def test_a_line_is_an_output(package: Package, lines: list[str]) -> None:
    """Only a newline ends one."""
    store(package, "\n".join(lines).encode())
    assert dense_texts(package, len(lines)) == lines


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_examples_is_named(package: Package, count: int) -> None:
    store(package, b"a\nb")
    with pytest.raises(DamagedArtifactError, match=rf"2 dense outputs do not fit {count} examples"):
        dense_texts(package, count)


def test_what_is_no_text_is_named(package: Package) -> None:
    store(package, b"\xff")
    with pytest.raises(DamagedArtifactError, match=r"reference\.npz: dense_outputs is no text"):
        dense_texts(package, 1)


def test_a_reference_that_is_not_there_is_named(package: Package, tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match=r"reference\.npz"):
        dense_texts(replace(package, folder=tmp_path), 1)
