import json

from edgelr.quantize.choice import Choice
from edgelr.quantize.control import Controlled
from edgelr.quantize.error_list import LayerError
from edgelr.quantize.facts import facts
from edgelr.quantize.left import Left
from edgelr.recipe.quantize import Quantize

CHOICES = {
    "model": {
        "a": Choice(scheme="int8-dynamic"),
        "b": Choice(scheme="int8-dynamic"),
        "c": Choice(scheme="fp32", reason="quantize.layers: c"),
    }
}
ERRORS = {
    "model": [
        LayerError(layer="a", alone_db=40.04, accumulated_db=35.55, output_change=0.000123456),
        LayerError(layer="b", alone_db=30.0, accumulated_db=29.99, output_change=0.01),
    ]
}
KEPT = Left(name="c", bytes=400, reason="quantize.layers: c", stated=True)
SMALL = Left(name="types", bytes=60, reason="a table of fewer than 65536 numbers", stated=False)
SECTION = Quantize.model_validate({"scheme": "int8-dynamic", "max_drop": {"metric": "cosine", "value": 0.1}})


def test_worst_first_and_rounded():
    document = facts(SECTION, CHOICES, ERRORS, {"model": [KEPT]}, 1000, None)
    assert [row["layer"] for row in document["layers"]] == ["b", "a", "c"]
    assert document["layers"][1] == {
        "graph": "model",
        "layer": "a",
        "scheme": "int8-dynamic",
        "reason": "",
        "alone_db": 40.0,
        "accumulated_db": 35.5,
        "output_change": 0.000123,
    }
    assert json.loads(json.dumps(document)) == document


def test_what_was_measured_in_part_comes_after():
    errors = [
        LayerError(layer="a", alone_db=40.04, accumulated_db=35.55, output_change=None),
        LayerError(layer="b", alone_db=30.0, accumulated_db=29.99, output_change=None),
        LayerError(layer="c", alone_db=20.0, accumulated_db=20.0, output_change=1e-9),
    ]
    rows = facts(SECTION, CHOICES, {"model": errors}, {"model": []}, 1000, None)["layers"]
    assert [row["layer"] for row in rows] == ["c", "b", "a"]
    assert "output_change" not in rows[1]


def test_a_reason_that_was_given_is_no_warning():
    document = facts(SECTION, CHOICES, ERRORS, {"model": [KEPT]}, 1000, None)
    assert (document["fp32_left_share"], document["warnings"]) == (0.0, [])


def test_more_than_a_twentieth_without_a_reason_is_a_warning():
    left = {"model": [KEPT, SMALL]}
    assert facts(SECTION, CHOICES, ERRORS, left, 1200, None)["warnings"] == []
    (warning,) = facts(SECTION, CHOICES, ERRORS, left, 1000, None)["warnings"]
    assert warning == (
        "6.0% of the weights' bytes stayed fp32 under int8-dynamic without anyone having said so: "
        "types (a table of fewer than 65536 numbers)"
    )


def test_what_accuracy_control_found():
    found = Controlled(choices={}, kept=(("model", "c"),), drop=0.0912345678, without=0.5, evaluations=7)
    assert facts(SECTION, CHOICES, ERRORS, {}, 1000, found)["control"] == {
        "metric": "cosine",
        "max_drop": 0.1,
        "drop": 0.091235,
        "drop_without": 0.5,
        "evaluations": 7,
        "kept": ["c"],
    }
