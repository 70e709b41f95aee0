from pathlib import Path

from edgelr.quantize.choice import Choice
from edgelr.quantize.error_list import LayerError
from edgelr.quantize.graphs import Prepared
from edgelr.quantize.layers import Layer
from edgelr.quantize.units import units_of
from edgelr.recipe.quantize import Quantize


def layer(name, matrix):
    return Layer(name=name, kind="product", value=f"{name}.y", input="x", matrix=matrix, numbers=10)


GRAPHS = {
    "model": Prepared(
        path=Path(),
        name="model.onnx",
        layers=(layer("a", "w"), layer("b", "w"), layer("c", "v"), layer("d", "u")),
    )
}
ERRORS = {
    "model": [
        LayerError(layer=name, alone_db=20.0, accumulated_db=20.0, output_change=change)
        for name, change in (("a", 0.25), ("b", 0.5), ("c", 1.0), ("d", None))
    ]
}


def found(scheme, **schemes):
    choices = {"model": {name: Choice(scheme=schemes.get(name, "int8-dynamic")) for name in "abcd"}}
    settings = Quantize.model_validate({"scheme": scheme, "layers": {"d": "weight-int8"}})
    return {
        tuple(name for _, name in unit.layers): (unit.scheme, unit.change)
        for unit in units_of(GRAPHS, choices, ERRORS, settings)
    }


def test_layers_of_one_matrix_are_one():
    assert found("int8-dynamic", d="weight-int8") == {
        ("a", "b"): ("int8-dynamic", 0.75),
        ("c",): ("int8-dynamic", 1.0),
    }


def test_what_was_not_measured_loses_least():
    assert found("int8-dynamic")["d",] == ("int8-dynamic", 0.0)


def test_what_auto_chose_may_be_kept_and_what_a_glob_names_may_not():
    assert found("auto", c="weight-int4", d="weight-int8") == {
        ("a", "b"): ("int8-dynamic", 0.75),
        ("c",): ("weight-int4", 1.0),
    }
