"""Stage report: all of the above -> report.json, report.md and its pictures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelr.artifacts import BASELINES, CANDIDATE, Cost, Package, Plan
from edgelr.outcome import Report, StageRow
from edgelr.recipe.schema import Recipe
from edgelr.report.evidence import with_evidence
from edgelr.report.markdown import report_markdown
from edgelr.report.pictures import latency_picture, layers_picture
from edgelr.report.quantization import PICTURE, errors_picture, read_quantization
from edgelr.runtime.package import ORT
from edgelr.runtime.variants import released
from edgelr.session_rows import Sessions
from edgelr.verdict import LatencyRow, Verdict
from edgelr.writing import atomic_write_text

FORMAT = 1
_ROWS = ("gates", "devices", "accuracy", "placement", "fallbacks")  # of a verdict, as they are


def write_report(  # noqa: PLR0913 - the report is of everything
    *,
    recipe: Recipe,
    plan: Plan,
    packages: Mapping[str, Package],
    sessions: Sessions,
    verdict: Verdict,
    passed: bool,
    stages: Sequence[StageRow],
    host: Mapping[str, object],
    warnings: Sequence[str],
    out: Path,
) -> Report:
    """Write what a build found.

    Args:
        recipe: What was asked for.
        plan: The rank of every site.
        packages: By variant: ``candidate``, the baselines that were built, and variants of the candidate.
        sessions: Settings that made a variant faster.
        verdict: What validation measured.
        passed: Whether every gate is met.
        stages: Every stage that ran or was reused, in order.
        host: What the figures were measured on.
        warnings: What a reader should know before trusting a figure; the verdict's notes are added.
        out: Where ``report.json``, ``report.md``, ``layers.svg``, ``latency.svg`` and, for a quantized
            package, ``quantization.svg`` go.

    Returns:
        The report; its package is None when a gate failed.

    Raises:
        StorageError: ``out`` cannot be written.
    """
    document = report_document(
        recipe=recipe,
        plan=plan,
        packages=packages,
        sessions=sessions,
        verdict=verdict,
        passed=passed,
        stages=stages,
        host=host,
        warnings=warnings,
    )
    atomic_write_text(out / "layers.svg", layers_picture(document["layers"]))
    atomic_write_text(out / "latency.svg", latency_picture(document["latency"]))
    if document["quantization"] is not None:
        atomic_write_text(out / PICTURE, errors_picture(document["quantization"]["layers"]))
    atomic_write_text(out / "report.md", report_markdown(document))
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write_text(out / "report.json", text + "\n")
    package = out / "package" if passed else None
    return Report(out=out, passed=passed, package=package, document=document)


def report_document(  # noqa: PLR0913 - the report is of everything
    *,
    recipe: Recipe,
    plan: Plan,
    packages: Mapping[str, Package],
    sessions: Sessions,
    verdict: Verdict,
    passed: bool,
    stages: Sequence[StageRow],
    host: Mapping[str, object],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Build what ``report.json`` holds; keys are stable, later versions only add.

    Args:
        recipe: See ``write_report``, as for all others.
        plan: The rank of every site.
        packages: By variant.
        sessions: Settings that made a variant faster.
        verdict: What validation measured.
        passed: Whether every gate is met.
        stages: Every stage.
        host: What the figures were measured on.
        warnings: What a reader should know.

    Returns:
        Plain JSON values; a figure that is not finite is null.

    Raises:
        DamagedArtifactError: What the candidate says of its quantization cannot be read.
    """
    costs = {variant: package.cost for variant, package in packages.items()}
    quantization = read_quantization(packages.get(CANDIDATE))
    found = [read_quantization(package) for package in released(packages).values()]
    told = [warning for each in found if each is not None for warning in each.get("warnings", ())]
    latency = sorted(verdict.latency, key=lambda row: (row.device, _sizes_in(row.shape)))
    document = {
        "edgelr": FORMAT,
        "recipe": recipe.model_dump(mode="json", by_alias=True, exclude_none=True),
        "passed": passed,
        "model": {
            "dense": asdict(costs.get("dense-fp32", plan.dense)),
            "candidate": asdict(costs.get(CANDIDATE, plan.candidate)),
        },
        **_sizes(packages),
        "ratios": [*_size_shares(costs), *_speedups(latency)],
        **{name: [asdict(row) for row in getattr(verdict, name)] for name in _ROWS},
        "latency": [row.figures() for row in latency],
        "sessions": [asdict(row) for row in sessions.rows],
        "plan": {name: getattr(plan, name) for name in ("kept_share", "predicted_loss", "found", "unit")},
        "layers": [asdict(site) for site in plan.sites],
        "quantization": quantization,
        "stages": [asdict(row) for row in stages],
        "host": dict(host),
        "warnings": list(dict.fromkeys([*warnings, *told, *verdict.notes])),
    }
    return with_evidence(_plain(document))


def _sizes(packages: Mapping[str, Package]) -> dict[str, Any]:
    """Bytes of every package, and of each of the candidate's files in ONNX Runtime's own format."""
    own = {
        file: (package.folder / file).stat().st_size
        for variant, package in packages.items()
        for file in package.files
        if variant == CANDIDATE and file.startswith(ORT)
    }
    sizes = {variant: package.cost.bytes for variant, package in packages.items()}
    return {"sizes": sizes, "ort_bytes": own}


def _size_shares(costs: Mapping[str, Cost]) -> list[dict[str, Any]]:
    """Bytes of the candidate's package as a share of each baseline's."""
    candidate = costs.get(CANDIDATE)
    if candidate is None:
        return []
    return [
        {"figure": "bytes", "baseline": variant, "share": candidate.bytes / cost.bytes}
        for variant, cost in costs.items()
        if variant in BASELINES
    ]


def _speedups(rows: Sequence[LatencyRow]) -> list[dict[str, Any]]:
    """Median latency of each baseline over the device's own package, device by device, shape by shape."""
    own = {(row.device, row.shape): row for row in rows if row.variant not in BASELINES}
    found = []
    for row in rows:
        candidate = own.get((row.device, row.shape))
        if row.variant not in BASELINES or candidate is None:
            continue
        found.append(
            {
                "figure": "p50_ms",
                "device": row.device,
                "evidence": row.evidence,
                "shape": row.shape,
                "baseline": row.variant,
                "variant": candidate.variant,
                "speedup": row.p50_ms / candidate.p50_ms if candidate.p50_ms else None,
            }
        )
    return found


def _sizes_in(shape: str) -> list[int]:
    """The numbers of a shape, so that 16 comes before 128."""
    return [int(number) for number in re.findall(r"\d+", shape)]


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Lists for tuples, text for paths, null for what is not finite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case Path():
            return str(value)
        case _:
            return value
