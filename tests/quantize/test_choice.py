import pytest

from edgelr.errors import QuantizeError
from edgelr.quantize.choice import Choice, check_globs, choose
from edgelr.quantize.layers import Layer
from edgelr.recipe.quantize import Quantize

NAMES = ("encoder.layer.0.query.down", "encoder.layer.0.query.up", "decoder.layer.0.q+k", "lm_head")
LAYERS = [Layer(name=n, kind="product", value=n, input="x", matrix=n, numbers=1) for n in NAMES]


def section(**layers):
    return Quantize(scheme="int8-dynamic", layers=layers)


def test_the_first_glob_that_matches_counts():
    found = choose(
        LAYERS, section(**{"*.query": "fp32", "encoder.*": "weight-int8", "decoder.*": "weight-int4"})
    )
    assert {name: choice.scheme for name, choice in found.items()} == dict(
        zip(NAMES, ("fp32", "fp32", "weight-int4", "int8-dynamic"), strict=True)
    )
    assert found[NAMES[0]].reason == "quantize.layers: *.query"
    assert found["lm_head"] == Choice(scheme="int8-dynamic")


def test_a_glob_that_matches_nothing_lists_what_is_near():
    with pytest.raises(
        QuantizeError, match=r"quantize.layers: 'encoder.layer.0.qury' matches none of the 4"
    ) as error:
        check_globs(NAMES, section(**{"lm_*": "fp32", "encoder.layer.0.qury": "fp32"}))
    assert "encoder.layer.0.query" in str(error.value.hint)
    check_globs(NAMES, section(**{"lm_*": "fp32"}))
