import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from lxml import etree
from onnx import TensorProto, helper, numpy_helper

from edgelr.artifacts import Package
from edgelr.compare.check import Comparison
from edgelr.compare.protocol import Restart, Setup
from edgelr.compare.rows import Row
from edgelr.compare.sides import common_inputs, open_side
from edgelr.device.schema import Device

ROOT = Path(__file__).parents[2]
TIMED = ("p50", "p90", "first_call", "load", "memory")


@pytest.fixture
def package(make_package: Callable[..., Package]) -> Package:
    return make_package()


@pytest.fixture
def one_layer(tmp_path: Path) -> Callable[..., Path]:
    """A graph that multiplies ``x [tokens, 128]`` by a matrix a number of times."""

    def write(times: int, name: str | None = None) -> Path:
        matrix = np.eye(128, dtype=np.float32)
        names = ["x", *(f"h{number}" for number in range(times - 1)), "y"]
        nodes = [
            helper.make_node("MatMul", [one, "matrix"], [other], name=f"layer.{number}")
            for number, (one, other) in enumerate(pairwise(names))
        ]
        shape = ["tokens", 128]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(matrix, "matrix")],
        )
        path = tmp_path / (name or f"{times}.onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        return path

    return write


@pytest.fixture
def setup_of(cpu: Device) -> Callable[..., Setup]:
    """Two paths -> what is timed: short texts, and graphs with 64 tokens."""

    def make(base: Path, candidate: Path, **changes: object) -> Setup:
        sides = open_side("base", base), open_side("candidate", candidate)
        inputs = common_inputs(*sides, tokens=8, audio_s=1, sizes={} if base.is_dir() else {"tokens": 64})
        wanted = {"device": cpu, "inputs": inputs, "cpus": (), "patience_s": 30.0, **changes}
        return Setup(base=sides[0], candidate=sides[1], **wanted)  # type: ignore[arg-type]

    return make


@pytest.fixture
def restart_of() -> Callable[..., Restart]:
    """A restart that was not measured: log ratios of candidate and twin, the same of every quantity."""

    def make(candidate: float = 0.0, twin: float = 0.0, **changes: object) -> Restart:
        times = {"base": 1.0, "candidate": float(np.exp(candidate)), "twin": float(np.exp(twin))}
        found = {
            "candidate": dict.fromkeys(TIMED, candidate),
            "twin": dict.fromkeys(TIMED, twin),
            "times_ms": {side: ((time,) * 50,) for side, time in times.items()},
            "settled": True,
            "pinned": True,
            "host": {"load_1min": 0.5},
            **changes,
        }
        return Restart(**found)  # type: ignore[arg-type]

    return make


@pytest.fixture
def row_of() -> Callable[..., Row]:
    def make(quantity: str, outcome: str | None, ratio: float = 1.1, limit: float = 0.05) -> Row:
        exact = quantity not in TIMED
        return Row(
            quantity=quantity,
            ratio=ratio,
            low=None if exact else ratio - 0.02,
            high=None if exact else ratio + 0.02,
            noise=None if exact else 0.01,
            limit=None if outcome is None else limit,
            outcome=outcome,  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def comparison_of(
    row_of: Callable[..., Row], restart_of: Callable[..., Restart]
) -> Callable[..., Comparison]:
    """A comparison that was not measured, of each outcome."""

    def make(outcome: str, **changes: object) -> Comparison:
        draw = np.random.default_rng(0)
        found = {
            "outcome": outcome,
            "rows": (row_of("p50", outcome), row_of("p90", None), row_of("bytes", "pass", 1.0)),
            "restarts": 16,
            "confirmed": outcome == "regression",
            "seconds": 50.0,
            "more_seconds": 30.0 if outcome == "inconclusive" else 0.0,
            "p50_ms": (1.0, 1.1),
            "p90_ms": (1.2, 1.3),
            "p90_bound_ms": (1.25, 1.35),
            "grown": (("MatMul", 0.5, 0.6),) if outcome == "regression" else (),
            "moved": (("layer.1 (MatMul)", "QNNExecutionProvider", "CPUExecutionProvider"),),
            "host": {"load_1min": (0.5, 1.0)},
            "log_ratios": (
                tuple(draw.normal(0.1, 0.01, 16).tolist()),
                tuple(draw.normal(0, 0.01, 16).tolist()),
            ),
            "measured": (
                restart_of(
                    times_ms={
                        side: (tuple(draw.normal(middle, 0.02, 900).tolist()),)
                        for side, middle in {"base": 1.0, "candidate": 1.1, "twin": 1.0}.items()
                    }
                ),
            ),
            "notes": ("a note",),
            **changes,
        }
        return Comparison(**found)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def check_junit() -> Callable[[str], None]:
    """Against the schema."""
    schema = etree.XMLSchema(etree.parse(Path(__file__).with_name("junit.xsd")))
    return lambda text: schema.assertValid(etree.fromstring(text.encode()))


@pytest.fixture(scope="session")
def check_document() -> Callable[[dict], None]:
    """Against the schema that users have."""
    from jsonschema import Draft202012Validator

    path = ROOT / "edgelr" / "compare" / "comparison.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema).validate
