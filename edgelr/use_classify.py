"""What ``edgelr run`` does with a classifier: texts or images in, a label and its probability out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import UsageError
from edgelr.terminal import say
from edgelr.text_inputs import read_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgelr.artifacts import Package
    from edgelr.device.schema import Device


def classify(package: Package, inputs: Sequence[str], device: Device) -> dict[str, Any]:
    """Name the label of every input, and print it with its probability.

    Args:
        package: As opened by ``open_package``.
        inputs: Texts; ``-`` stands for the lines of standard input.
        device: The profile to run as.

    Returns:
        ``{"classifications": [{"input", "label", "probability", "probabilities": {label: ...}}]}``.

    Raises:
        UsageError: There is no input.
        DataError: Standard input holds no text.
    """
    from edgelr.device.session import open_session
    from edgelr.runtime.classify import logits_of, probabilities
    from edgelr.runtime.labels import read_labels
    from edgelr.runtime.package import model_path, session_entries
    from edgelr.runtime.text import package_tokenizer

    texts = read_texts(inputs)
    labels, tokenizer = read_labels(package.folder), package_tokenizer(package)
    session = open_session(model_path(package), device, entries=session_entries(package, device.name))
    scores = [(text, logits_of(package, session, tokenizer, text)) for text in texts]
    return _named(labels, [(text, probabilities(each)) for text, each in scores])


def classify_files(package: Package, inputs: Sequence[str], device: Device) -> dict[str, Any]:
    """Name the label of every image, and print it with its probability.

    Args:
        package: As opened by ``open_package``.
        inputs: ``.npz`` files of the graph's input, such as ``pixel_values``, with an image a row.
        device: The profile to run as.

    Returns:
        As of ``classify``; the input is ``FILE[ROW]``.

    Raises:
        UsageError: There is no input.
        DataError: A file is missing or does not fit the graph.
    """
    from edgelr.device.session import open_session
    from edgelr.runtime.classify import LOGITS, probabilities
    from edgelr.runtime.graph import run_graph
    from edgelr.runtime.labels import read_labels
    from edgelr.runtime.package import model_path, session_entries
    from edgelr.use_arrays import read_inputs

    if not inputs:
        raise UsageError("there is no input", "give .npz files with the arrays that the graph reads")
    calls = [(path, read_inputs(Path(path), package)) for path in inputs]
    session = open_session(model_path(package), device, entries=session_entries(package, device.name))
    found = []
    for path, call in calls:
        for row, scores in enumerate(run_graph(session, call)[LOGITS]):
            found.append((f"{path}[{row}]", probabilities(scores)))
    return _named(read_labels(package.folder), found)


def _named(labels: Sequence[str], found: Sequence[tuple[str, NDArray[Any]]]) -> dict[str, Any]:
    rows = []
    for given, shares in found:
        best = int(shares.argmax())
        say(f"{labels[best]}  {shares[best]:.3f}")
        every = {label: float(value) for label, value in zip(labels, shares, strict=True)}
        row = {"input": given, "label": labels[best], "probability": float(shares[best])}
        rows.append({**row, "probabilities": every})
    return {"classifications": rows}
