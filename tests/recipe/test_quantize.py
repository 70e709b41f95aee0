from typing import get_args

import pytest
from pydantic import ValidationError

from edgelr.recipe.quantize import TIMED, LayerScheme, Quantize, Scheme, needs_data


def section(**settings):
    return Quantize.model_validate(settings)


def test_a_layer_may_be_anything_a_graph_may_and_fp32():
    assert set(get_args(LayerScheme)) == {"fp32", *get_args(Scheme)}


def test_schemes_are_all_that_a_layer_may_become():
    assert section(scheme="int8-dynamic").schemes == ("int8-dynamic",)
    layers = {"a.*": "weight-int8", "b": "fp32", "c": "int8-dynamic"}
    assert section(scheme="int8-dynamic", layers=layers).schemes == ("int8-dynamic", "weight-int8", "fp32")
    control = {"metric": "cosine", "value": 0.01}
    assert section(scheme="fp16", max_drop=control).schemes == ("fp16", "fp32")
    assert section(scheme="weight-int4", max_drop=control).schemes == ("weight-int4", "weight-int8", "fp32")


def test_what_auto_becomes_a_device_says():
    assert section(scheme="auto").schemes == ()
    assert section(scheme="auto", layers={"a": "fp16"}).schemes == ("fp16",)
    control = {"metric": "cosine", "value": 0.01}
    assert section(scheme="auto", max_drop=control).schemes == ("weight-int8", "fp32")
    assert needs_data(section(scheme="auto")), "that tells how many rows there are"
    assert set(TIMED) < set(get_args(LayerScheme))


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_who_looks_at_data(scheme):
    looks = scheme in {"int8-static", "a16w8", "fp16"}
    assert needs_data(section(scheme=scheme)) is looks
    assert needs_data(section(scheme="int8-dynamic", layers={"a": scheme})) is looks
    assert needs_data(section(scheme=scheme, max_drop={"metric": "cosine", "value": 0.01}))


def test_the_order_of_the_globs_stays():
    globs = ["z", "a", "m"]
    assert list(section(scheme="fp16", layers=dict.fromkeys(globs, "fp32")).layers) == globs


@pytest.mark.parametrize(
    "settings",
    [
        {"scheme": "int8"},
        {"scheme": "fp16", "layers": {"a": "int8"}},
        {"scheme": "fp16", "max_drop": {"metric": "cosine"}},
        {"scheme": "fp16", "max_drop": {"metric": "cosine", "value": -0.1}},
        {"scheme": "int8-static", "calibration": "mse"},
        {"scheme": "fp16", "vocabulary": "int8"},
    ],
)
def test_what_cannot_be_meant(settings):
    with pytest.raises(ValidationError):
        section(**settings)


def test_what_is_fitted_looks_at_data():
    assert needs_data(section(scheme="weight-int8", activations="relu"))
    assert not needs_data(section(scheme="weight-int8", activations="kept"))
