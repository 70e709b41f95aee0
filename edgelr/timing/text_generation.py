"""Going on with a text as what is timed: a prompt at once, and then a token a call of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.device.schema import Device
from edgelr.runtime.causal_decoder import DECODER
from edgelr.runtime.continue_text import timed_continuation, writer_of
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.package import open_package

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TimedContinuation:
    """A package of a causal language model, called like a session.

    Args:
        folder: The package.
        device: Where it runs.
        entries: Session settings on top of the package's and the device's.
        profile: Start of the name of its session's profile, when there is to be one.

    Attributes:
        sessions: Of its graph, by role.
        noted: ``first_ms``: milliseconds to the first token of every call so far.
    """

    def __init__(
        self, folder: Path, device: Device, entries: Mapping[str, str] = {}, profile: Path | None = None
    ) -> None:
        package = open_package(folder)
        self.sessions = open_graphs(package, device, (DECODER,), entries, profile)
        self._writer = writer_of(package, self.sessions)
        self.noted: dict[str, list[float]] = {"first_ms": []}

    def run(self, _: None, given: Mapping[str, NDArray[Any]]) -> None:
        """Go on after ``input_ids [1, tokens]`` by as many tokens as ``new_tokens`` says.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on the graph.
        """
        (prompt,) = given["input_ids"].tolist()
        first, _total = timed_continuation(self._writer, prompt, int(given["new_tokens"]))
        self.noted["first_ms"].append(first * 1e3)
