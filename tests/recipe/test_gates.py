"""Limits of gates: exactly one, whole."""

import pytest
from pydantic import ValidationError

from edgelr.recipe.gates import Bound, LatencyGate, MetricGate


@pytest.mark.parametrize(
    "given", [{}, {"max": 1.0, "max_share_of": "dense-fp32", "share": 0.5}, {"share": 0.5}]
)
def test_a_bound_is_one_limit(given):
    with pytest.raises(ValidationError):
        Bound.model_validate(given)


@pytest.mark.parametrize("limits", [{}, {"max": 5.0, "max_share_of": "dense-int8", "share": 0.5}])
def test_a_latency_gate_is_one_limit(limits):
    with pytest.raises(ValidationError, match="exactly one limit"):
        LatencyGate.model_validate({"latency": "p90_ms", "device": "cpu-1t", **limits})


@pytest.mark.parametrize("limits", [{}, {"min": 0.5, "max_drop": 0.1}])
def test_a_metric_gate_is_one_limit(limits):
    with pytest.raises(ValidationError, match="exactly one of max_drop, max_rise, min, max"):
        MetricGate.model_validate({"metric": "cosine", **limits})
