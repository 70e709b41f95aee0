import pytest

babel = pytest.importorskip("babel")

from edgelr.load import cldr_dates  # noqa: E402
from edgelr.load.cldr_names import families, listed, lists_of  # noqa: E402
from edgelr.load.draw import Draw  # noqa: E402

ENGLISH, GERMAN = babel.Locale("en"), babel.Locale("de")
FAMILIES = {family.name: family for family in families((ENGLISH, GERMAN))}


@pytest.mark.parametrize(
    ("family", "value", "english", "german"),
    [
        ("territory", "DE", "Germany", "Deutschland"),
        ("language", "fr", "French", "Französisch"),
        ("currency", "CHF", "Swiss Franc", "Schweizer Franken"),
        ("locale", "pt_BR", "Portuguese (Brazil)", "Portugiesisch (Brasilien)"),
        ("month-name", 3, "March", "März"),
        ("weekday-name", 0, "Monday", "Montag"),
    ],
)
def test_a_name_is_that_of_cldr(family, value, english, german):
    (pattern,) = FAMILIES[family].patterns
    assert (pattern.say(value, ENGLISH), pattern.say(value, GERMAN)) == (english, german)


def test_only_what_has_a_name_in_both_languages_is_named():
    small = babel.Locale("vo")
    for family in families((ENGLISH, small)):
        draw = Draw(family.name)
        for _ in range(50 if family.probes else 0):
            assert family.wording(draw).say(small)


def test_what_is_no_place_is_not_named():
    draw = Draw("places")
    assert not {"ZZ", "XA", "XB"} & {FAMILIES["territory"].draw(draw) for _ in range(3000)}


def test_a_list_is_named_by_its_combination_in_any_order_and_with_any_word():
    draw = Draw("lists")
    lists = [
        listed(FAMILIES["weekday-name"], style, draw) for style in ("standard", "or") for _ in range(2000)
    ]
    by_group: dict[str, set[str]] = {}
    for each in lists:
        by_group.setdefault(each.group, set()).add(each.say(ENGLISH))
    assert by_group["list:weekday-name:0+1"] == {
        "Monday and Tuesday",
        "Tuesday and Monday",
        "Monday or Tuesday",
        "Tuesday or Monday",
    }
    sizes = {len(group.rpartition(":")[2].split("+")) for group in by_group}
    assert sizes == {2, 3, 4}


def test_a_text_has_one_name():
    draw = Draw("lists")
    texts = {}
    for _ in range(3000):
        wording = listed(FAMILIES["month-name"], "or", draw)
        assert texts.setdefault((wording.group, wording.pattern), wording.say(GERMAN)) == wording.say(GERMAN)


def test_lists_are_of_what_apps_list():
    make = lists_of([*FAMILIES.values(), *cldr_dates.families()])
    draw = Draw("kinds")
    kinds = {make(draw).group.split(":")[1] for _ in range(500)}
    assert {"territory", "language", "date"} <= kinds
    assert "locale" not in kinds
