"""Texts of the dense model, which travel with every package of one build."""

from __future__ import annotations

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.runtime.arrays import read_arrays

REFERENCE = "reference.npz"


def dense_texts(package: Package, count: int) -> list[str]:
    """What the dense model says of a package's examples: a line each, kept as the bytes of one text.

    Args:
        package: Any variant.
        count: How many examples it has.

    Raises:
        DamagedArtifactError: There is no text, or it has another number of lines.
    """
    path = package.folder / REFERENCE
    stored = read_arrays(path, ["dense_outputs"])["dense_outputs"]
    try:
        lines = stored.tobytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DamagedArtifactError(f"{path}: dense_outputs is no text: {error}") from error
    if len(lines) != count:
        raise DamagedArtifactError(f"{path}: {len(lines)} dense outputs do not fit {count} examples")
    return lines
