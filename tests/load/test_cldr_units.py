from decimal import Decimal

import pytest

babel = pytest.importorskip("babel")

from edgelr.load.cldr_families import plain  # noqa: E402
from edgelr.load.cldr_units import families  # noqa: E402
from edgelr.load.draw import Draw  # noqa: E402

FAMILIES = {family.name: family for family in families()}


def said(family: str, kind: str, pattern: str, value, language: str) -> str:
    patterns = FAMILIES[family].patterns
    found = next(each for each in patterns if (each.kind, each.name) == (kind, pattern))
    return plain(found.say(value, babel.Locale(language)))


@pytest.mark.parametrize(
    ("family", "kind", "pattern", "value", "english", "german"),
    [
        ("unit", "unit:length-kilometer", "long", Decimal(1), "1 kilometer", "1 Kilometer"),
        ("unit", "unit:length-kilometer", "short", Decimal("1234.5"), "1,234.5 km", "1.234,5 km"),
        ("unit", "unit:duration-minute", "long", Decimal("2.5"), "2.5 minutes", "2,5 Minuten"),
        ("rate", "unit:volume-liter-per-duration-minute", "short", Decimal(5), "5 L/min", "5 l/min"),
        ("span", "unit:duration-hour", "long-span", 90, "90 hours", "90 Stunden"),
        ("relative", "relative:day", "long", 3, "in 3 days", "in 3 Tagen"),
        ("relative", "relative:day", "long", -3, "3 days ago", "vor 3 Tagen"),
        ("hour-minute", "duration:hour-minute", "long", (2, 1), "2 hours, 1 minute", "2 Stunden, 1 Minute"),
        ("hour-minute", "duration:hour-minute", "narrow", (2, 15), "2h 15m", "2 Std., 15 Min."),
    ],
)
def test_a_quantity_is_said_as_an_app_would(family, kind, pattern, value, english, german):
    assert said(family, kind, pattern, value, "en") == english
    assert said(family, kind, pattern, value, "de") == german


def test_a_locale_without_a_narrow_pattern_has_the_short_one():
    """Babel gives '5 length-kilometer': it does not follow the alias."""
    assert said("unit", "unit:length-kilometer", "narrow", Decimal(5), "de") == "5 km"


def test_a_unit_that_does_not_exist_is_no_text():
    from edgelr.load.cldr_units import _rate, _unit

    for say in (_unit("length-smoot", "long"), _rate("length-smoot", "duration-day", "long")):
        with pytest.raises((LookupError, ValueError)):
            say(Decimal(5), babel.Locale("de"))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_draw_can_be_said_and_named(family):
    draw = Draw(family.name)
    for _ in range(100):
        wording = family.wording(draw)
        assert wording.group.count(":") >= 1
        assert wording.say(babel.Locale("en")).strip()


def test_every_unit_is_one_that_babel_knows():
    english = babel.Locale("en")
    for family in ("unit", "rate"):
        for pattern in FAMILIES[family].patterns:
            assert pattern.say(Decimal(3), english), pattern
