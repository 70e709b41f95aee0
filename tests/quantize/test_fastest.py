import json

import pytest

from edgelr.errors import DamagedArtifactError, QuantizeError
from edgelr.quantize.choice import Choice
from edgelr.quantize.fastest import (
    FILE,
    SchemeTimes,
    Shape,
    facts_of_times,
    fastest_choices,
    fastest_scheme,
    main_scheme,
    read_scheme_times,
    write_scheme_times,
)
from edgelr.quantize.layers import Layer

LONG, STEP, SMALL = Shape(128, 384, (384,)), Shape(1, 384, (384, 384)), Shape(1, 16, (8,))
TIMES = SchemeTimes(
    device="cpu-1t",
    ms={
        LONG: {"int8-dynamic": 1.0, "weight-int8": 2.0, "weight-int4": 2.2, "fp32": 1.8},
        STEP: {"int8-dynamic": 0.2, "weight-int8": 0.15, "weight-int4": 0.152, "fp32": 0.4},
        SMALL: {"int8-dynamic": 0.02, "weight-int8": 0.02, "weight-int4": 0.02, "fp32": 0.01},
    },
    layers={"encoder": {"long": LONG}, "decoder": {"q": STEP, "k": STEP, "small": SMALL, "head": STEP}},
)


def layer(name, kind="product", matrix=None, numbers=100):
    return Layer(
        name=name, kind=kind, value=f"{name}.y", input="x", matrix=matrix or f"{name}.w", numbers=numbers
    )


@pytest.mark.parametrize(
    ("ms", "scheme"),
    [
        ({"int8-dynamic": 1.0, "weight-int4": 2.0, "fp32": 1.5}, "int8-dynamic"),
        ({"int8-dynamic": 1.0, "weight-int4": 1.04, "fp32": 1.5}, "weight-int4"),
        ({"int8-dynamic": 1.0, "weight-int4": 1.06, "fp32": 1.5}, "int8-dynamic"),
        ({"int8-static": 1.0, "int8-dynamic": 1.02, "fp32": 0.99}, "int8-dynamic"),
        ({"weight-int8": 1.0, "int8-static": 1.04}, "int8-static"),
        ({"int8-dynamic": 1.0, "weight-int4": 1.1, "fp32": 0.8}, "fp32"),
        ({"fp32": 3.0}, "fp32"),
    ],
)
def test_the_fastest_and_of_equals_the_smallest_then_the_safest(ms, scheme):
    assert fastest_scheme(ms) == scheme
    assert fastest_scheme(dict(reversed(ms.items()))) == scheme, "in whatever order they come"


def test_each_layer_by_the_shape_that_it_multiplies():
    assert fastest_choices([layer("long")], "encoder", TIMES)["long"] == Choice(
        scheme="int8-dynamic", reason="fastest on cpu-1t"
    )
    smaller = Choice(scheme="weight-int4", reason="as fast as any on cpu-1t, and smaller")
    found = fastest_choices([layer("q"), layer("k"), layer("small")], "decoder", TIMES)
    assert found["q"] == found["k"] == smaller
    assert found["small"].scheme == "fp32"


def test_a_table_goes_with_the_head_that_shares_it():
    layers = [layer("rows", "table", "tied"), layer("positions", "table"), layer("head", matrix="tied")]
    found = fastest_choices(layers, "decoder", TIMES)
    assert found["rows"].scheme == found["head"].scheme == "weight-int4"
    assert found["positions"].scheme == "int8-dynamic"
    bytes_only = SchemeTimes(
        device="npu", ms={STEP: {"weight-int4": 1.0, "fp32": 9.0}}, layers={"decoder": {"head": STEP}}
    )
    assert fastest_choices(layers[1:], "decoder", bytes_only)["positions"].scheme == "weight-int4"


def test_a_package_is_called_what_most_of_it_is():
    choices = {name: Choice(scheme=scheme) for name, scheme in (("a", "fp32"), ("b", "weight-int4"))}
    layers = [layer("a", numbers=10**6), layer("b")]
    assert main_scheme([(each, choices) for each in layers], "cpu-1t") == "weight-int4"
    with pytest.raises(QuantizeError, match="auto leaves every layer fp32, which is fastest on cpu-1t"):
        main_scheme([(layers[0], choices)], "cpu-1t")


def test_the_most_common_shape_comes_first_in_the_report():
    found = facts_of_times(TIMES)
    assert [(row["rows"], row["layers"], row["scheme"]) for row in found["shapes"]] == [
        (1, 3, "weight-int4"),
        (1, 1, "fp32"),
        (128, 1, "int8-dynamic"),
    ]
    assert found["device"] == "cpu-1t"
    assert found["shapes"][0]["outs"] == [384, 384]


def test_times_travel_as_a_file(tmp_path):
    write_scheme_times(TIMES, tmp_path)
    assert read_scheme_times(tmp_path) == TIMES
    document = json.loads((tmp_path / FILE).read_text())
    document["layers"]["encoder"]["long"] = 7
    (tmp_path / FILE).write_text(json.dumps(document))
    with pytest.raises(DamagedArtifactError, match="layout of this version"):
        read_scheme_times(tmp_path)
