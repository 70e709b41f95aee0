"""Artifacts as files: write JSON, and open the folder of each kind of artifact.

A file that is missing or has another layout is a ``DamagedArtifactError``: the store then builds it again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelr.artifacts import (
    AccuracyRow,
    Cost,
    Factored,
    GateRow,
    LatencyRow,
    LeftDense,
    PlacementRow,
    Plan,
    Site,
    SitePlan,
    Source,
    Survey,
    Verdict,
)
from edgelr.errors import DamagedArtifactError


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as readable, deterministic JSON; of a dataclass, the folder is left out."""
    document = asdict(value) if hasattr(value, "__dataclass_fields__") else value  # type: ignore[call-overload]
    if isinstance(document, dict):
        document = {key: entry for key, entry in document.items() if not isinstance(entry, Path)}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Read a JSON file of an artifact.

    Raises:
        DamagedArtifactError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", "build the artifact again") from error


def read_source(folder: Path) -> Source:
    """Open a Source folder."""
    document = read_json(folder / "source.json")
    return Source(folder=folder, model_folder=Path(document.pop("model_folder")), **document)


def read_survey(folder: Path) -> Survey:
    """Open a Survey folder."""
    document = read_json(folder / "survey.json")
    return Survey(
        folder=folder,
        sites=tuple(Site(**row) for row in document["sites"]),
        skipped=tuple(LeftDense(**row) for row in document["skipped"]),
        tokens=document["tokens"],
        parameters=document["parameters"],
    )


def read_plan(folder: Path) -> Plan:
    """Open a Plan folder."""
    document = read_json(folder / "plan.json")
    return Plan(
        folder=folder,
        sites=tuple(SitePlan(**row) for row in document["sites"]),
        dense=Cost(**document["dense"]),
        candidate=Cost(**document["candidate"]),
        kept_share=document["kept_share"],
        predicted_loss=document["predicted_loss"],
    )


def read_factored(folder: Path) -> Factored:
    """Open a Factored folder."""
    return Factored(folder=folder, **read_json(folder / "structure.json"))


def read_verdict(folder: Path) -> Verdict:
    """Open a Verdict folder."""
    document = read_json(folder / "verdict.json")
    return Verdict(
        folder=folder,
        passed=document["passed"],
        accuracy=tuple(AccuracyRow(**{**row, "ci95": tuple(row["ci95"])}) for row in document["accuracy"]),
        latency=tuple(LatencyRow(**row) for row in document["latency"]),
        placement=tuple(PlacementRow(**row) for row in document["placement"]),
        gates=tuple(GateRow(**row) for row in document["gates"]),
        sizes=document["sizes"],
        notes=tuple(document["notes"]),
    )
