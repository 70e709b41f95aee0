"""Our tables of operators, against those in ONNX Runtime's wheel and what its tool says of a graph."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime.tools.mobile_helpers.usability_checker as checker
import pytest

from edgelr.artifacts import Package
from edgelr.placement.operators import ANALYZED
from edgelr.placement.partitions import partitions
from edgelr.placement.rules import refusal
from edgelr.placement.seen import nodes_of, seen_model
from edgelr.runtime.package import model_path

TABLES = Path(checker.__file__).parent
TOLD = {
    "CoreMLExecutionProvider": "coreml_supported_mlprogram_ops.md",
    "NnapiExecutionProvider": "nnapi_supported_ops.md",
}
# A slip of the table: there is no operator of that name.
SLIPS = {"Argmax": "ArgMax"}
HIGHEST_RANK = {"CoreMLExecutionProvider": 5, "NnapiExecutionProvider": 999}


@pytest.mark.parametrize("provider", TOLD)
def test_operators_are_those_of_the_wheel(provider: str) -> None:
    rows = [line.split("|") for line in (TABLES / TOLD[provider]).read_text().splitlines()]
    told = {row[1].removeprefix("ai.onnx:") for row in rows if len(row) >= 4 and ":" in row[1]}
    assert set(ANALYZED[provider].operators) == {SLIPS.get(name, name) for name in told}


@pytest.mark.parametrize("provider", TOLD)
@pytest.mark.parametrize("sizes", [{}, {"batch": 1, "tokens": 8}], ids=["open", "fixed"])
def test_nothing_is_taken_that_the_tool_refuses(
    provider: str, sizes: dict[str, int], make_package: Callable[..., Package]
) -> None:
    model = seen_model(model_path(make_package()), sizes)
    for number, node in enumerate(model.graph.node):
        node.name = f"node {number}"
    known = checker._SupportedOpsChecker(TABLES / TOLD[provider])
    theirs = checker.check_partitioning(model.graph, known, True, HIGHEST_RANK[provider])
    their_nodes = {node.name for group in theirs.supported_groups for node in group}
    nodes = nodes_of(model)
    reasons = {node.name: refusal(node, ANALYZED[provider]) for node in nodes}
    ours = {name for name, reason in reasons.items() if reason is None}
    assert ours <= their_nodes
    # The tool leaves types and constants to the reader, as caveats; everything else is the same.
    stricter = {reasons[name] for name in their_nodes - ours}
    assert all(reason.startswith(("type ", "input ", "rank ", "axis ")) for reason in stricter), stricter
    if ours == their_nodes:
        parts = partitions(nodes, [reason is None for reason in reasons.values()])
        assert len(parts) == theirs.num_partitions


def test_xnnpack_multiplies_by_weights_only(make_package: Callable[..., Package]) -> None:
    nodes = nodes_of(seen_model(model_path(make_package()), {}))
    taken = [node.operator for node in nodes if refusal(node, ANALYZED["XnnpackExecutionProvider"]) is None]
    assert taken == ["MatMul"]
