"""A whole translation as what is timed: the encoder once, the decoder once a token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.device.schema import Device
from edgelr.runtime.package import open_package
from edgelr.runtime.translate import open_translator, timed_translation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class TimedTranslation:
    """A translation package, called like a session.

    Args:
        folder: The package.
        device: Where it runs.

    Attributes:
        noted: ``first_ms``: milliseconds to the first token of every call so far.
    """

    def __init__(self, folder: Path, device: Device) -> None:
        self._translator = open_translator(open_package(folder), device)
        self.noted: dict[str, list[float]] = {"first_ms": []}

    def run(self, _: None, given: Mapping[str, NDArray[Any]]) -> None:
        """Translate ``input_ids [batch, source]`` greedily into as many tokens as ``new_tokens`` says.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on a graph.
        """
        ids = given["input_ids"].tolist()
        first, _total = timed_translation(self._translator, ids, int(given["new_tokens"]))
        self.noted["first_ms"].append(first * 1e3)
