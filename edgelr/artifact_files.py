"""Artifacts as files: write JSON, and open the folder of each kind of artifact.

A file that is missing or has another layout is a ``DamagedArtifactError``: the store then builds it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelr.artifacts import Cost, Factored, Plan, SitePlan, Source, Survey
from edgelr.errors import DamagedArtifactError
from edgelr.placement.fallback import FallbackRow
from edgelr.session_rows import SessionRow, Sessions
from edgelr.structure import Group, LeftDense, Reduction, Sensitivity, Site
from edgelr.verdict import AccuracyRow, DeviceRow, GateRow, LatencyRow, PlacementRow, Verdict

_AGAIN = "build the artifact again"


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
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", _AGAIN) from error


@contextmanager
def _layout_of(path: Path) -> Iterator[Any]:
    """Give the document in ``path``; a key that it lacks, or has too many of, is damage."""
    document = read_json(path)
    try:
        yield document
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedArtifactError(
            f"{path} does not have the layout of this version: {type(error).__name__}: {error}", _AGAIN
        ) from error


def read_source(folder: Path) -> Source:
    """Open a Source folder.

    Raises:
        DamagedArtifactError: source.json is missing, is not JSON, or has another layout.
    """
    with _layout_of(folder / "source.json") as document:
        return Source(folder=folder, model_folder=folder / document.pop("model_folder"), **document)


def read_survey(folder: Path) -> Survey:
    """Open a Survey folder.

    Raises:
        DamagedArtifactError: survey.json is missing, is not JSON, or has another layout.
    """
    with _layout_of(folder / "survey.json") as document:
        return Survey(
            folder=folder,
            sites=tuple(_site(row) for row in document["sites"]),
            groups=tuple(
                Group(**{**_with_sensitivity(row), "sites": tuple(row["sites"])})
                for row in document["groups"]
            ),
            skipped=tuple(LeftDense(**row) for row in document["skipped"]),
            tokens=document["tokens"],
            parameters=document["parameters"],
            measured=document["measured"],
            factors=document["factors"],
            unit=document["unit"],
        )


def _site(row: dict[str, Any]) -> Site:
    lists = {name: tuple(row.get(name, ())) for name in ("shared", "kernel", "stride")}
    return Site(**{**_with_sensitivity(row), **lists})


def _with_sensitivity(row: dict[str, Any]) -> dict[str, Any]:
    points = tuple((energy, change) for energy, change in row["sensitivity"]["points"])
    return {**row, "sensitivity": Sensitivity(points=points)}


def _reductions(rows: list[dict[str, Any]]) -> tuple[Reduction, ...]:
    lists = [{"sites": tuple(row["sites"]), "shared": tuple(row.get("shared", ()))} for row in rows]
    return tuple(Reduction(**{**row, **names}) for row, names in zip(rows, lists, strict=True))


def read_plan(folder: Path) -> Plan:
    """Open a Plan folder.

    Raises:
        DamagedArtifactError: plan.json is missing, is not JSON, or has another layout.
    """
    with _layout_of(folder / "plan.json") as document:
        return Plan(
            folder=folder,
            sites=tuple(SitePlan(**row) for row in document["sites"]),
            reductions=_reductions(document["reductions"]),
            dense=Cost(**document["dense"]),
            candidate=Cost(**document["candidate"]),
            kept_share=document["kept_share"],
            predicted_loss=document["predicted_loss"],
            curve=tuple((share, change) for share, change in document["curve"]),
            found=document["found"],
            unit=document["unit"],
        )


def read_factored(folder: Path) -> Factored:
    """Open a Factored folder.

    Raises:
        DamagedArtifactError: structure.json is missing, is not JSON, or has another layout.
    """
    with _layout_of(folder / "structure.json") as document:
        return Factored(
            folder=folder,
            reductions=_reductions(document.pop("reductions")),
            rectified=tuple(document.pop("rectified", ())),
            **document,
        )


def read_sessions(folder: Path) -> Sessions:
    """Open a Sessions folder.

    Raises:
        DamagedArtifactError: sessions.json is missing, is not JSON, or has another layout.
    """
    with _layout_of(folder / "sessions.json") as document:
        return Sessions(folder=folder, rows=tuple(SessionRow(**row) for row in document["rows"]))


def read_verdict(folder: Path) -> Verdict:
    """Open a Verdict folder.

    Raises:
        DamagedArtifactError: verdict.json is missing, is not JSON, or has another layout.
    """
    with _layout_of(folder / "verdict.json") as document:
        return Verdict(
            folder=folder,
            passed=document["passed"],
            accuracy=tuple(
                AccuracyRow(**{**row, "ci95": tuple(row["ci95"])}) for row in document["accuracy"]
            ),
            latency=tuple(LatencyRow(**row) for row in document["latency"]),
            placement=tuple(PlacementRow(**row) for row in document["placement"]),
            gates=tuple(GateRow(**row) for row in document["gates"]),
            sizes=document["sizes"],
            notes=tuple(document["notes"]),
            fallbacks=tuple(FallbackRow(**row) for row in document["fallbacks"]),
            devices=tuple(DeviceRow(**row) for row in document["devices"]),
        )
