"""What a kind of package is: the functions that every stage after export calls, and where each task's are.

A task has two faces. ``tasks/`` is the one that knows the torch model; this is the one that knows the
package: how it is used, scored, compared, calibrated and timed. A kind is a module, this Protocol is its
type. Adding one means a module here and a line in ``_MODULES``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgelr.artifacts import Package
from edgelr.errors import UnsupportedModelError
from edgelr.examples import AnyExample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from edgelr.device.schema import Device
    from edgelr.metrics.scores import Scores
    from edgelr.progress import Progress

    Sessions = Mapping[str, InferenceSession]
    Feeds = Mapping[str, NDArray[np.generic]]

Each = Callable[[], object]
"""Called after every run, for a progress bar."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Scores packages on examples: the same code whoever asks, on whatever split.

    Attributes:
        answer: (package, its graphs by role, open, what to call after every run) -> its answers to the
            examples. Raises ExportError or QuantizeError where one is not finite.
        score: (answers, the dense model's answers) -> every metric of the task, in its usual order.
    """

    answer: Callable[[Package, Sessions, Each | None], Any]
    score: Callable[[Any, Any], dict[str, Scores]]


class Kind(Protocol):
    """The functions of a kind's module.

    Attributes:
        EXAMPLE: The kind of its examples.
        OPTIONS: Those of ``edgelr run`` that it takes.
        UNIT: What the lengths of its inputs are counted in: ``tokens``, ``s``, ``rows`` or ``users``.
        RUNS: How many runs an example takes.
    """

    EXAMPLE: type[AnyExample]
    OPTIONS: tuple[str, ...]
    UNIT: str
    RUNS: int

    def use(
        self,
        package: Package,
        inputs: Sequence[str],
        device: Device,
        **options: Any,  # noqa: ANN401 - of a command line
    ) -> dict[str, Any]:
        """What ``edgelr run`` does: run every input through the package, and print what comes out.

        Raises:
            UsageError: There is no input.
            DataError: An input is unusable.
        """
        ...

    def judge(self, examples: Sequence[AnyExample], folder: Path) -> Judge:
        """A judge on some examples, whose own files are in ``folder``.

        Raises:
            DamagedArtifactError: An example cannot be scored.
        """
        ...

    def dense_answers(self, package: Package, count: int) -> Any:  # noqa: ANN401 - as the judge's  # noqa: ANN401 - as the judge's
        """The dense model's answers to the ``count`` examples of a package, which travel in it.

        Raises:
            DamagedArtifactError: They do not fit the examples.
        """
        ...

    def parity(self, package: Package, sessions: Sessions) -> float | None:
        """Largest difference from torch's outputs on the stored cases; None for a kind that stores none.

        Raises:
            DamagedArtifactError: A case is incomplete.
            ExportError, QuantizeError: An output is not finite.
            UnsupportedModelError: The graph fails.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """Of metrics that others publish too, exactly which ones they are.

        Raises:
            MissingRequirementError: What scores the task is not installed.
        """
        ...

    def feeds(self, package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
        """What the graphs of an fp32 package are fed with for some of the examples, by role, one a call."""
        ...

    def compare(self, package: Package, folder: Path, progress: Progress) -> dict[str, float]:
        """Mean cosine of each quantized graph's output to the fp32 graph's; what is precomputed is made anew.

        One example a call: the scale of a dynamically quantized activation depends on the whole batch.

        Args:
            package: The fp32 package.
            folder: Where the quantized graphs are, under the same names.
            progress: Where to show how far it is.

        Returns:
            Role -> cosine.

        Raises:
            QuantizeError: An output is not finite.
        """
        ...

    def timed(self, package: Package, device: Device) -> dict[str, Any]:
        """What ``timing/worker.py`` is asked to open, for a call to be what an app does."""
        ...

    def timed_inputs(self, package: Package, length: int) -> dict[str, Any]:
        """Inputs of one call, as nested lists: ``length`` is in ``UNIT``."""
        ...


_MODULES = {
    "sentence-embedding": "edgelr.kinds.sentence_embedding",
    "translation": "edgelr.kinds.translation",
    "automatic-speech-recognition": "edgelr.kinds.speech",
    "text-classification": "edgelr.kinds.text_classification",
    "token-classification": "edgelr.kinds.token_classification",
    "image-classification": "edgelr.kinds.image_classification",
    "custom": "edgelr.kinds.arrays",
    "onnx": "edgelr.kinds.arrays",
    "recommendation": "edgelr.kinds.recommendation",
    "text-generation": "edgelr.kinds.text_generation",
}


def kind_of(package: Package) -> Kind:
    """The module of a package's kind.

    Args:
        package: Any package.

    Raises:
        UnsupportedModelError: Its task is unknown.
    """
    if package.task not in _MODULES:
        raise UnsupportedModelError(
            f"{package.folder}: the task {package.task!r} is unknown", "update edgelr"
        )
    return cast(Kind, importlib.import_module(_MODULES[package.task]))
