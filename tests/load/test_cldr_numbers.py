from decimal import Decimal

import pytest

babel = pytest.importorskip("babel")

from edgelr.load.cldr_families import plain  # noqa: E402
from edgelr.load.cldr_numbers import families, numbers_family, tender_currencies  # noqa: E402
from edgelr.load.draw import Draw  # noqa: E402

FAMILIES = {family.name: family for family in families()}


@pytest.mark.parametrize(
    ("family", "pattern", "value", "english", "german"),
    [
        ("major-money", ("money:EUR", "standard"), "1234.5", "€1,234.50", "1.234,50 €"),
        ("major-money", ("money:USD", "name"), "5", "5.00 US dollars", "5,00 US-Dollar"),
        ("major-money", ("money:USD", "accounting"), "-7.25", "($7.25)", "-7,25 $"),
        ("major-money", ("money:JPY", "standard"), "1234", "¥1,234", "1.234 ¥"),
        ("money", ("money:KWD", "standard"), "5", "KWD5.000", "5,000 KWD"),
        ("short-money", ("money:EUR", "short"), "1250000", "€1.25M", "1,25 Mio. €"),
        ("percent", ("percent", "standard"), "12.5", "12.5%", "12,5 %"),
        ("thousands", ("compact", "long"), "12500", "12.5 thousand", "12,5 Tausend"),
        ("millions", ("compact", "short"), "3400000000", "3.4B", "3,4 Mrd."),
        ("number", ("number", "decimal"), "1234.5", "1,234.5", "1.234,5"),
    ],
)
def test_a_number_is_said_as_an_app_would(family, pattern, value, english, german):
    found = next(each for each in FAMILIES[family].patterns if (each.kind, each.name) == pattern)
    assert plain(found.say(Decimal(value), babel.Locale("en"))) == english
    assert plain(found.say(Decimal(value), babel.Locale("de"))) == german


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_draw_can_be_said_and_named(family):
    draw = Draw(family.name)
    for _ in range(100):
        wording = family.wording(draw)
        assert Decimal(wording.group.rpartition(":")[2]) != 0
        assert wording.say(babel.Locale("es")).strip()


def test_a_number_has_one_name():
    family = numbers_family("any", 1, [])
    assert (
        family.show(Decimal("1200"))
        == family.show(Decimal("1.2E3"))
        == family.show(Decimal("1200.00"))
        == "1200"
    )


def test_currencies_do_not_change_with_the_day():
    found = tender_currencies()
    assert {"EUR", "USD", "CHF"} <= found
    assert not {"DEM", "XXX", "XTS"} & found
