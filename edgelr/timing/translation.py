"""A whole translation as what is timed: the encoder once, the decoder once a token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.device.schema import Device
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.package import open_package
from edgelr.runtime.translate import DECODER, ENCODER, timed_translation, translator_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("first_ms", "encoder_ms", "decoder_ms")


class TimedTranslation:
    """A translation package, called like a session.

    Args:
        folder: The package.
        device: Where it runs.
        entries: Session settings on top of the package's and the device's.
        profile: Start of the names of its sessions' profiles, when there are to be some.

    Attributes:
        sessions: Of its graphs, by role.
        noted: Milliseconds to the first token, of the encoder and of the decoder, of every call so far.
    """

    def __init__(
        self, folder: Path, device: Device, entries: Mapping[str, str] = {}, profile: Path | None = None
    ) -> None:
        package = open_package(folder)
        self.sessions = open_graphs(package, device, (ENCODER, DECODER), entries, profile)
        self._translator = translator_of(package, self.sessions)
        self.noted: dict[str, list[float]] = {name: [] for name in PARTS}

    def run(self, _: None, given: Mapping[str, NDArray[Any]]) -> None:
        """Translate ``input_ids [batch, source]`` greedily into as many tokens as ``new_tokens`` says.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on a graph.
        """
        ids = given["input_ids"].tolist()
        read, first, total = timed_translation(self._translator, ids, int(given["new_tokens"]))
        for name, seconds in zip(PARTS, (first, read, total - read), strict=True):
            self.noted[name].append(seconds * 1e3)
