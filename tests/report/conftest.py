"""A build with round figures, so that what a report must say can be said by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelr.artifacts import Cost, Graph, Package, Plan, SitePlan
from edgelr.outcome import StageRow
from edgelr.placement.fallback import FallbackRow
from edgelr.recipe.schema import Recipe
from edgelr.report.stage import report_document
from edgelr.session_rows import Sessions
from edgelr.structure import Reduction
from edgelr.verdict import AccuracyRow, DeviceRow, GateRow, LatencyRow, PlacementRow, Verdict

RECIPE = """{"edgelr": 1, "name": "tiny",
  "model": {"path": "tiny"}, "compress": {"keep": {"parameters": 0.5}},
  "task": {"type": "sentence-embedding", "data": {"source": "python-docs"}}}"""
P50_MS = {"dense-fp32": 8.0, "dense-int8": 5.0, "candidate": 4.0}
SIZE_BYTES = {"dense-fp32": 80_000_000, "dense-int8": 20_000_000, "candidate": 16_000_000}


def package(variant: str) -> Package:
    return Package(
        folder=Path("never-opened"),
        name="tiny",
        task="sentence-embedding",
        graphs={"model": Graph(file="model.onnx", inputs=(), outputs=())},
        precision="fp32",
        cost=Cost(parameters=SIZE_BYTES[variant] // 4, bytes=SIZE_BYTES[variant], macs=1000),
        settings={},
        source={},
        gates=(),
        accuracy={},
        files={},
    )


def latency(variant: str, tokens: int) -> LatencyRow:
    p50_ms = P50_MS[variant] * tokens / 16
    return LatencyRow(
        variant=variant,
        device="cpu-1t",
        evidence="run",
        shape=f"1x{tokens}",
        p50_ms=p50_ms,
        p90_ms=p50_ms * 1.5,
        p99_ms=p50_ms * 2,
        runs=200,
        peak_bytes=100_000_000,
        threads=1,
    )


def accuracy(variant: str, value: float) -> AccuracyRow:
    interval = (value - 0.01, value + 0.01)
    return AccuracyRow(
        variant=variant, device="cpu-1t", metric="mrr", value=value, ci95=interval, examples=500
    )


@pytest.fixture
def findings() -> dict[str, Any]:
    """What the stages hand to ``write_report``, ``out`` aside."""
    sites = (
        SitePlan(
            name="layer.0.query",
            out=8,
            in_=8,
            form="low-rank",
            rank=2,
            kept_share=0.5,
            error_share=0.125,
            expected_change=3.0,
        ),
        SitePlan(
            name="layer.0.<out>",
            out=8,
            in_=8,
            form="dense",
            rank=None,
            kept_share=1.0,
            error_share=0.0,
            expected_change=9.0,
        ),
    )
    plan = Plan(
        folder=Path("never-opened"),
        sites=sites,
        reductions=(Reduction(form="low-rank", sites=("layer.0.query",), rank=2),),
        dense=Cost(parameters=128, bytes=512, macs=128),
        candidate=Cost(parameters=96, bytes=384, macs=96),
        kept_share=0.75,
        predicted_loss=0.5,
    )
    verdict = Verdict(
        folder=Path("never-opened"),
        passed=False,
        accuracy=(accuracy("candidate", 0.5), accuracy("dense-fp32", 0.625)),
        latency=tuple(latency(variant, tokens) for tokens in (128, 16) for variant in P50_MS),
        placement=(
            PlacementRow(
                variant="candidate",
                device="cpu-1t",
                provider="CPUExecutionProvider",
                nodes=40,
                share=1.0,
                evidence="run",
            ),
            PlacementRow(
                variant="candidate",
                device="phone",
                provider="QNNExecutionProvider",
                nodes=30,
                share=0.75,
                evidence="emulated",
                macs_share=0.99,
                partitions=2,
            ),
        ),
        devices=(
            DeviceRow(
                device="cpu-1t",
                title="One core",
                variant="candidate",
                evidence="run",
                scored=True,
                timed=True,
                placed="recorded",
                agreement=None,
            ),
            DeviceRow(
                device="web-wasm",
                title="Browser",
                variant="candidate",
                evidence="emulated",
                scored=False,
                timed=False,
                placed=None,
                agreement="agrees with cpu-1t on 6 inputs",
            ),
        ),
        fallbacks=(
            FallbackRow(
                variant="candidate",
                device="phone",
                node="layer.0.softmax",
                operator="Softmax",
                macs_share=0.0,
                reason="dynamic shape of scores",
            ),
        ),
        gates=(
            GateRow(gate="mrr max_drop", limit=0.01, value=0.125, passed=False),
            GateRow(gate="size_mb max", limit=20.0, value=16.0, passed=True),
        ),
        sizes=SIZE_BYTES,
        notes=("the profile asks for 4 threads, the host has 2",),
    )
    return {
        "recipe": Recipe.model_validate_json(RECIPE),
        "plan": plan,
        "packages": {variant: package(variant) for variant in P50_MS},
        "sessions": Sessions(folder=Path("never-opened"), rows=()),
        "verdict": verdict,
        "passed": verdict.passed,
        "stages": (
            StageRow(stage="load", key="0123456789abcdef0123", seconds=1.25, reused=True),
            StageRow(stage="survey", key="fedcba9876543210fedc", seconds=20.0, reused=False),
        ),
        "host": {"cpu": "Example | 2 cores", "python": "3.11.7"},
        "warnings": ("the card names no license",),
    }


@pytest.fixture
def document(findings: dict[str, Any]) -> dict[str, Any]:
    """The report.json of these findings."""
    return report_document(**findings)


@pytest.fixture
def written(findings: dict[str, Any]) -> dict[str, Any]:
    """The report.json of the same build, had it been to write token by token; dense-int8 was not timed so."""
    verdict = findings["verdict"]
    rows = tuple(
        row
        if row.variant == "dense-int8"
        else replace(row, tokens_per_s=160 / row.p50_ms, first_token_ms=row.p50_ms / 4)
        for row in verdict.latency
    )
    return report_document(**{**findings, "verdict": replace(verdict, latency=rows)})
