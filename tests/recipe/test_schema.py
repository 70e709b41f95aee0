"""Rules of the schema that no single field can hold."""

from typing import get_args

import pytest
from pydantic import ValidationError

from edgelr.recipe.gates import LatencyGate, MetricGate, SizeGate
from edgelr.recipe.quantize import Quantize, Scheme
from edgelr.recipe.schema import Compress, Keep, Latency, Model, Quality, Validation


@pytest.mark.parametrize("budget", ["parameters", "bytes", "macs"])
def test_a_budget_is_one_share(budget):
    assert Keep.model_validate({budget: 0.5}).share == (budget, 0.5)


def test_a_latency_budget_is_a_speedup_and_no_share():
    keep = Keep.model_validate({"latency": {"device": "cpu-1t", "speedup": 1.8}})
    assert keep.latency == Latency(device="cpu-1t", speedup=1.8, tokens=128, seconds=20.0)
    with pytest.raises(ValueError, match="not a share"):
        _ = keep.share


def test_a_quality_budget_is_a_loss_and_no_share():
    keep = Keep.model_validate({"quality": {"metric": "cosine", "max_drop": 0}})
    assert keep.quality == Quality(metric="cosine", max_drop=0.0)
    with pytest.raises(ValueError, match="not a share"):
        _ = keep.share


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"bytes": 0.5, "macs": 0.5},
        {"macs": 0.5, "quality": {"metric": "cosine", "max_drop": 0.1}},
        {"parameters": 0.0},
        {"parameters": 1.1},
        {"quality": {"metric": "cosine", "max_drop": -0.1}},
        {"latency": {"device": "cpu-1t", "speedup": 1.0}},
    ],
)
def test_no_budget_two_budgets_and_no_share(given):
    with pytest.raises(ValidationError):
        Keep.model_validate(given)


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


@pytest.mark.parametrize("scheme", [scheme for scheme in get_args(Scheme) if scheme != "fp16"])
def test_a_vocabulary_may_be_in_blocks_with_any_scheme_of_integers(scheme):
    assert Quantize.model_validate({"scheme": scheme}).vocabulary is None
    for given in ("int8", "int4", None):
        assert Quantize.model_validate({"scheme": scheme, "vocabulary": given}).vocabulary == given
    with pytest.raises(ValidationError):
        Quantize.model_validate({"scheme": scheme, "vocabulary": "fp32"})


def test_nothing_changes_afterwards():
    keep = Keep(parameters=0.5)
    with pytest.raises(ValidationError):
        keep.parameters = 0.6


def test_plain_factors_know_no_mean():
    settings = {"keep": {"parameters": 0.5}, "center": True}
    with pytest.raises(ValidationError, match="center needs factors: whitened or kronecker"):
        Compress.model_validate({**settings, "factors": "plain"})
    assert Compress.model_validate(settings).center


def test_allocating_by_sensitivity_needs_measured_ones():
    calibration = {"sensitivity_examples": 0}
    with pytest.raises(ValidationError, match=r"sensitivity needs calibration\.sensitivity_examples above 0"):
        Compress.model_validate({"keep": {"parameters": 0.5}, "calibration": calibration})
    Compress.model_validate({"keep": {"parameters": 0.5}, "calibration": calibration, "allocate": "gradient"})


def test_a_model_is_somewhere_or_is_trained():
    assert Model(path="m").title == "m"
    assert Model(path="m", package="p").title == "p"
    trained = Model.model_validate({"train": {"type": "two-tower"}})
    assert trained.title == "two-tower, trained here"
    classifier = Model.model_validate({"train": {"type": "text-classifier", "path": "m"}})
    assert classifier.title == "text-classifier, trained here"
    for both in ({}, {"path": "m", "train": {"type": "two-tower"}}):
        with pytest.raises(
            ValidationError, match="exactly one is needed: 'path' of a trained model, or 'train'"
        ):
            Model.model_validate(both)
