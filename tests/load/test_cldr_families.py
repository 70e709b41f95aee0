import pytest

from edgelr.load.cldr_families import Family, Owned, Pattern, plain
from edgelr.load.draw import Draw

babel = pytest.importorskip("babel")
LANGUAGES = babel.Locale("en"), babel.Locale("de")


def family(name: str, texts: dict[str, str], probes=(1, 2, 3, 4)) -> Family[int]:
    """Values whose text in a language is the value and a word."""
    patterns = [
        Pattern(
            name, word, lambda value, locale, both=both: f"{value} {both.split('/')[locale.language == 'de']}"
        )
        for word, both in texts.items()
    ]
    return Family(name, 1, patterns, lambda draw: draw.between(1, 9), probes)


def names(family: Family[int]) -> list[str]:
    return [pattern.name for pattern in family.patterns]


def test_draws_are_those_of_every_machine():
    """Golden: another order of pairs would split them anew, under a model that is trained already."""
    draw = Draw("date")
    assert [draw.below(1000) for _ in range(4)] == [123, 510, 171, 44]
    assert {Draw("x").between(3, 5) for _ in range(3)} <= {3, 4, 5}


def test_draws_keep_to_their_bounds_and_shares():
    draw = Draw("bounds")
    assert {draw.between(3, 5) for _ in range(200)} == {3, 4, 5}
    assert {draw.pick("ab") for _ in range(100)} == {"a", "b"}
    drawn = [draw.weighted({"rare": 1, "never": 0, "often": 3}) for _ in range(2000)]
    assert drawn.count("never") == 0
    assert 0.7 < drawn.count("often") / len(drawn) < 0.8


def test_a_wording_names_its_value_and_its_pattern():
    wording = family("length", {"long": "meters/Meter"}).wording(Draw("a"))
    number = wording.group.removeprefix("length:")
    assert wording.pattern == "long"
    assert [wording.say(locale) for locale in LANGUAGES] == [f"{number} meters", f"{number} Meter"]


def test_the_first_pattern_to_claim_a_text_keeps_it():
    owned = Owned(LANGUAGES)
    assert names(owned.admit(family("length", {"long": "meters/Meter", "narrow": "m/m"}))) == [
        "long",
        "narrow",
    ]
    assert names(owned.admit(family("time", {"long": "minutes/Minuten", "narrow": "m/Min."}))) == ["long"]
    assert names(owned.admit(family("again", {"narrow": "m/m"}))) == ["narrow"], "no contradiction"


def test_one_contradiction_of_many_is_borne():
    owned = Owned(LANGUAGES)
    owned.admit(family("length", {"long": "m/m"}, probes=(1,)))
    assert names(owned.admit(family("time", {"narrow": "m/Min."}))) == ["narrow"]


@pytest.mark.parametrize("error", [KeyError, ValueError, AttributeError, NotImplementedError])
def test_what_a_locale_lacks_is_left_out(error):
    def say(value, locale):
        raise error

    lacking = Family("a", 1, [Pattern("a", "b", say)], lambda draw: 1, (1,))
    assert Owned(LANGUAGES).admit(lacking).patterns == []


def test_a_family_without_values_has_nothing_to_say():
    assert Owned(LANGUAGES).admit(family("none", {"long": "m/m"}, probes=())).patterns == []


def test_plain_spaces():
    assert plain("1\u202f234,5\u00a0€ \u2009–\u3000x\n") == "1 234,5 € – x"
