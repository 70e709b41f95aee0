"""Outputs that come token by token: those of the dense model that are stored, and others as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.runtime.arrays import read_arrays
from edgelr.validate.embeddings import REFERENCE, check_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgelr.runtime.decode import SourceDecoder


class CheckedDecoder:
    """A decoder whose scores are looked at: the largest of numbers that are none is a token like any other.

    Args:
        decoder: Does the work.
        package: What an error names.
    """

    def __init__(self, decoder: SourceDecoder, package: Package) -> None:
        self._decoder, self._package = decoder, package
        self.read, self.start, self.reorder = decoder.read, decoder.start, decoder.reorder

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """As of the decoder.

        Raises:
            ExportError, QuantizeError: A score is not finite.
        """
        scores = self._decoder.step(tokens)
        check_finite(scores, self._package)
        return scores


def dense_outputs(package: Package, count: int) -> list[str]:
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
