"""Locations of pydantic, with its tags, against the key paths of a file."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ValidationError

from edgelr.recipe.gates import Gate, LatencyGate, MetricGate, PlacementGate, SizeGate
from edgelr.recipe.places import choices_of, fields_of, find_place, members_of
from edgelr.recipe.schema import Recipe
from edgelr.recipe.tasks import PairsFile, PythonDocs


def test_tags_are_no_keys():
    place = find_place(Recipe, ("task", "sentence-embedding", "data", "python-docs", "train"))
    assert (place.key, place.section) == (("task", "data", "train"), PythonDocs)


def test_a_tag_that_is_also_a_key_is_told_apart():
    place = find_place(Recipe, ("validate", "gates", 0, "metric", "metric"))
    assert (place.key, place.kind, place.section) == (("validate", "gates", 0, "metric"), str, MetricGate)


def test_a_section_inside_a_member_of_a_union():
    place = find_place(Recipe, ("validate", "gates", 3, "size_mb", "size_mb", "share"))
    assert place.key == ("validate", "gates", 3, "size_mb", "share")


def test_optional_sections_and_elements_of_lists():
    assert find_place(Recipe, ("finetune", "steps")).key == ("finetune", "steps")
    place = find_place(Recipe, ("validate", "baselines", 1))
    assert choices_of(place.kind) == ("dense-fp32", "dense-int8")


def test_an_unknown_key_keeps_the_section_that_it_is_in():
    place = find_place(Recipe, ("compress", "keep", "parametrs"))
    keys = ["parameters", "bytes", "macs", "latency", "quality"]
    assert (place.kind, list(fields_of(place.section))) == (None, keys)


def test_fields_are_named_as_in_the_file():
    assert "validate" in fields_of(Recipe)
    assert "validation" not in fields_of(Recipe)


def test_members_by_tag_and_by_literal():
    assert members_of(Gate) == {
        "metric": MetricGate,
        "size_mb": SizeGate,
        "latency": LatencyGate,
        "placement": PlacementGate,
    }
    assert members_of(PythonDocs | PairsFile | None) == {"python-docs": PythonDocs, "file": PairsFile}
    assert members_of(PythonDocs | None) == {}
    assert members_of(str | int) == {}
    assert choices_of(Annotated[Literal["a", "b"] | None, 1]) == ("a", "b")


def test_values_of_a_mapping():
    class Entries(BaseModel):
        entries: dict[str, int]

    with pytest.raises(ValidationError) as caught:
        Entries.model_validate_json('{"entries": {"a.b": "x"}}')
    place = find_place(Entries, caught.value.errors()[0]["loc"])
    assert (place.key, place.kind, place.section) == (("entries", "a.b"), int, None)
