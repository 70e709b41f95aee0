"""Names of the labels that a classifier chooses from: ``labels.json`` in its package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgelr.artifact_files import read_json
from edgelr.errors import DamagedArtifactError, DataError

LABELS = "labels.json"


def write_labels(folder: Path, labels: Sequence[str]) -> None:
    """Write the names in the order of the model's scores.

    Args:
        folder: The package's.
        labels: At least two.
    """
    text = json.dumps(list(labels), ensure_ascii=False, indent=1)
    (folder / LABELS).write_text(text + "\n", encoding="utf-8")


def read_labels(folder: Path) -> list[str]:
    """The names in the order of the model's scores.

    Args:
        folder: The package's.

    Raises:
        DamagedArtifactError: The file is missing, or no list of texts.
    """
    labels = read_json(folder / LABELS)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DamagedArtifactError(f"{folder / LABELS} is no list of texts", "get or build the package again")
    return labels


def label_rows(labels: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Numbers of labels that are given by name, or by number where no label is called so.

    Args:
        labels: In the order of the model's scores.
        wanted: Of examples.

    Raises:
        DataError: One is unknown.
    """
    known = {str(number): number for number in range(len(labels))}
    known |= {label: number for number, label in enumerate(labels)}
    for label in wanted:
        if label not in known:
            raise DataError(
                f"the label '{label}' is none of the model's: {', '.join(labels[:20])}",
                "labels are the names of id2label in its config.json, or their numbers",
            )
    return [known[label] for label in wanted]
