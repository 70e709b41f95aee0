from pathlib import Path

import pytest

from edgelr.compare.options import limits_for, settings
from edgelr.compare.sides import open_side
from edgelr.errors import UsageError
from edgelr.recipe.compare import Compare

NOTHING = {"tolerance": None, "budget": None, "tokens": None, "audio_s": None, "limits": ()}


@pytest.fixture
def recipe(tiny_recipe: Path) -> Path:
    section = "compare: {tolerance: 0.03, budget_s: 90, limits: {p90: 0.2, bytes: 0.02}}\n"
    tiny_recipe.write_text(tiny_recipe.read_text(encoding="utf-8") + section, encoding="utf-8")
    return tiny_recipe


def test_without_anything_the_schema_decides():
    assert settings(None, **NOTHING) == Compare()


def test_a_recipe_decides_and_the_command_line_has_the_last_word(recipe):
    found = settings(recipe, **NOTHING)
    assert (found.tolerance, found.budget_s, found.tokens) == (0.03, 90, Compare().tokens)
    changes = {
        "tolerance": "7.5%",
        "budget": "2m",
        "tokens": 9,
        "audio_s": 2,
        "limits": ["bytes=0.5", "load=3 %"],
    }
    found = settings(recipe, **changes)
    assert (found.tolerance, found.budget_s, found.tokens, found.audio_s) == (0.075, 120, 9, 2)
    assert found.limits == {"p90": 0.2, "bytes": 0.5, "load": 0.03}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tolerance": "0"}, "--tolerance: '0' is no share above 0 and below 100 %"),
        ({"tolerance": "0%"}, "--tolerance: '0%' is no share"),
        ({"tolerance": "-5%"}, "--tolerance: '-5%' is no share"),
        ({"tolerance": "100%"}, "--tolerance: '100%' is no share"),
        ({"tolerance": "much"}, "--tolerance: 'much' is no share"),
        ({"tolerance": "nan"}, "--tolerance: 'nan' is no share"),
        ({"budget": "0.5s"}, "--budget: '0.5s' is no time from 1 s to 60 m"),
        ({"budget": "0"}, "--budget: '0' is no time"),
        ({"budget": "2h"}, "--budget: '2h' is no time"),
        ({"limits": ["speed=5%"]}, "--limit speed=5%: expected NAME=SHARE"),
        ({"limits": ["p50=5%"]}, "--limit p50=5%: expected NAME=SHARE"),
        ({"limits": ["bytes"]}, "--limit bytes: expected NAME=SHARE"),
        ({"limits": ["bytes=-2%"]}, "--limit bytes: '-2%' is no share"),
    ],
)
def test_what_cannot_be_meant(change, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        settings(None, **{**NOTHING, **change})


def test_a_limit_for_what_is_not_there_is_a_fault(one_layer, make_package):
    graphs = open_side("base", one_layer(1)), open_side("candidate", one_layer(2))
    assert limits_for(*graphs, Compare(limits={"bytes": 0.1})) == {"p50": 0.05, "bytes": 0.1}
    with pytest.raises(UsageError, match="limit for decoder, which base and candidate do not both have"):
        limits_for(*graphs, Compare(limits={"decoder": 0.1}))
    packages = [open_side(name, make_package(name).folder) for name in ("base", "candidate")]
    with pytest.raises(
        UsageError, match=r"limit for cosine(.|\n)*they have bytes, first_call, load, memory, p90"
    ):
        limits_for(*packages, Compare(limits={"cosine": 0.1}))
