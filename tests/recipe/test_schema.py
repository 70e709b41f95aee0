"""Rules of the schema that no single field can hold."""

import pytest
from pydantic import ValidationError

from edgelr.recipe.schema import Bound, Keep, LatencyGate, MetricGate, Model, SizeGate, Validation


@pytest.mark.parametrize("budget", ["parameters", "bytes", "macs"])
def test_a_budget_is_one_share(budget):
    assert Keep.model_validate({budget: 0.5}).budget == (budget, 0.5)


@pytest.mark.parametrize("given", [{}, {"bytes": 0.5, "macs": 0.5}, {"parameters": 0.0}, {"parameters": 1.1}])
def test_no_budget_two_budgets_and_no_share(given):
    with pytest.raises(ValidationError):
        Keep.model_validate(given)


@pytest.mark.parametrize(
    "given", [{}, {"max": 1.0, "max_share_of": "dense-fp32", "share": 0.5}, {"share": 0.5}]
)
def test_a_bound_is_one_limit(given):
    with pytest.raises(ValidationError):
        Bound.model_validate(given)


def test_gates_are_told_apart_by_their_key():
    gates = Validation.model_validate(
        {
            "gates": (
                {"metric": "cosine", "max_drop": 0.0},
                {"size_mb": {"max": 12.0}},
                {"latency": "p90_ms", "device": "cpu-1t", "max": 5.0},
            )
        }
    ).gates
    assert [type(gate) for gate in gates] == [MetricGate, SizeGate, LatencyGate]
    assert Validation(gates=gates).gates == gates


def test_a_revision_belongs_to_the_hub():
    with pytest.raises(ValidationError, match="exclude each other"):
        Model(path="m", package="p", revision="r")


def test_nothing_changes_afterwards():
    keep = Keep(parameters=0.5)
    with pytest.raises(ValidationError):
        keep.parameters = 0.6
