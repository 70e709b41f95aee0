"""Packages that name what an image shows: arrays in, judged by labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.examples import AnyExample, Call
from edgelr.kinds import arrays, text_classification
from edgelr.kinds.kind import Judge
from edgelr.kinds.text_classification import Answers
from edgelr.runtime.answers import check_finite
from edgelr.runtime.calls import OUTPUTS, read_calls, read_outputs
from edgelr.runtime.classify import LOGITS
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.graph import run_graph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgelr.device.schema import Device
    from edgelr.kinds.arrays import Named
    from edgelr.kinds.kind import Each, Sessions

EXAMPLE = Call
OPTIONS = ()
UNIT = "rows"
RUNS = 1

_LABELS = "labels"

feeds, compare = arrays.feeds, arrays.compare
parity, timed, timed_inputs = arrays.parity, arrays.timed, arrays.timed_inputs
notes = text_classification.notes


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Name the label of every image of every file; see ``use_classify.py``."""
    from edgelr.use_classify import classify_files

    return classify_files(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """Scores of every label, one image a call."""
    calls = read_calls(folder, [each for each in examples if isinstance(each, Call)])
    return Judge(
        answer=lambda package, sessions, each: _answers(package, sessions, calls, each),
        score=text_classification.score,
    )


def _answers(package: Package, sessions: Sessions, calls: Sequence[Named], each: Each | None) -> Answers:
    import numpy as np

    rows = []
    for call in calls:
        rows.append(run_graph(sessions["model"], call)[LOGITS])
        check_finite(rows[-1], package)
        if each is not None:
            each()
    return Answers(logits=np.concatenate(rows), labels=_labels(calls))


def _labels(calls: Sequence[Named]) -> NDArray[np.int64]:
    import numpy as np

    return np.concatenate([call[_LABELS] for call in calls])


def dense_answers(package: Package, count: int) -> Answers:
    """The dense model's scores, which are stored for every example."""
    import numpy as np

    outputs, _ = read_outputs(package.folder, count)
    if any(LOGITS not in each for each in outputs):
        raise DamagedArtifactError(f"{package.folder / OUTPUTS}: an example has no {LOGITS}")
    calls = read_calls(package.folder, folder_examples(package.folder, Call))
    return Answers(logits=np.concatenate([each[LOGITS] for each in outputs]), labels=_labels(calls))
