from datetime import date, datetime

import pytest

babel = pytest.importorskip("babel")

from edgelr.load.cldr_dates import families  # noqa: E402
from edgelr.load.cldr_families import plain  # noqa: E402
from edgelr.load.draw import Draw  # noqa: E402

FAMILIES = {family.name: family for family in families()}
MOMENT = datetime(2031, 4, 5, 13, 45, 30)


def said(family: str, pattern: str, value, language: str) -> str:
    found = next(each for each in FAMILIES[family].patterns if each.name == pattern)
    return plain(found.say(value, babel.Locale(language)))


@pytest.mark.parametrize(
    ("family", "pattern", "value", "english", "german"),
    [
        ("date", "full", date(2031, 4, 5), "Saturday, April 5, 2031", "Samstag, 5. April 2031"),
        ("date", "yMMMd", date(2031, 4, 5), "Apr 5, 2031", "5. Apr. 2031"),
        ("short-date", "short", date(2031, 4, 5), "4/5/31", "05.04.31"),
        ("day", "MMMMd", date(2031, 4, 5), "April 5", "5. April"),
        ("weekday", "MMMEd", date(2031, 4, 5), "Sat, Apr 5", "Sa., 5. Apr."),
        ("month", "yMMMM", date(2031, 3, 5), "March 2031", "März 2031"),
        ("quarter", "yQQQQ", date(2031, 4, 5), "2nd quarter 2031", "2. Quartal 2031"),
        ("minutes", "short", MOMENT, "1:45 PM", "13:45"),
        ("seconds", "medium", MOMENT, "1:45:30 PM", "13:45:30"),
        ("date-minutes", "long-short", MOMENT, "April 5, 2031, 1:45 PM", "5. April 2031, 13:45"),
        ("interval", "yMMMd", (MOMENT, datetime(2031, 4, 8)), "Apr 5 – 8, 2031", "5.–8. Apr. 2031"),
        ("months", "yMMMM", (MOMENT, datetime(2031, 5, 8)), "April – May 2031", "April–Mai 2031"),
        ("hours", "short", (MOMENT, datetime(2031, 4, 5, 15)), "1:45 – 3:00 PM", "13:45–15:00 Uhr"),
    ],
)
def test_a_value_is_said_as_an_app_would(family, pattern, value, english, german):
    assert said(family, pattern, value, "en") == english
    assert said(family, pattern, value, "de") == german


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_draw_can_be_said_and_named(family):
    draw = Draw(family.name)
    for _ in range(50):
        wording = family.wording(draw)
        kind, _, value = wording.group.partition(":")
        assert kind and value
        assert wording.say(babel.Locale("fr")).strip()


def test_dates_are_those_of_two_centuries_and_short_ones_mean_one_year():
    draw = Draw("years")
    years = [FAMILIES["date"].draw(draw).year for _ in range(5000)]
    assert (min(years), max(years)) == (1900, 2100)
    short = {FAMILIES["short-date"].draw(draw).year for _ in range(5000)}
    assert (min(short), max(short)) == (1950, 2049)


def test_an_interval_ends_after_it_starts():
    draw = Draw("ends")
    for name in ("interval", "months", "hours"):
        for _ in range(500):
            start, end = FAMILIES[name].draw(draw)
            assert start < end


def test_a_value_has_one_name_whatever_pattern_says_it():
    assert FAMILIES["date"].show(date(2031, 4, 5)) == FAMILIES["short-date"].show(date(2031, 4, 5))
    assert {pattern.kind for name in ("date", "short-date") for pattern in FAMILIES[name].patterns} == {
        "date"
    }
    assert FAMILIES["minutes"].show(MOMENT) == "13:45"
    assert FAMILIES["months"].show((MOMENT, datetime(2031, 5, 8))) == "2031-04/2031-05"
