"""Plain numbers, shares and money as apps show them, by Babel.

Import this only where Babel is known to be there.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal

from babel import Locale, numbers
from babel.core import get_global

from edgelr.load.cldr_families import Family, Pattern, Say
from edgelr.load.draw import Draw

MoneyStyle = Literal["name", "standard", "accounting"]

_MONEY_STYLES: tuple[MoneyStyle, ...] = ("standard", "name", "accounting")
# Those most apps show; the others come from the territories' tender.
_MAJOR = "USD EUR GBP JPY CHF CAD AUD CNY INR BRL MXN SEK NOK DKK PLN CZK KRW ZAR TRY NZD"
_TENDER_ON = datetime.date(2024, 1, 1)
# One, some, none of a plural's special cases, a fraction, and enough digits to be grouped.
_PROBES = tuple(map(Decimal, ("1", "3", "7.5", "25", "1234.5")))


def families() -> list[Family[Any]]:
    """All families of numbers and money, those first that may claim a text."""
    major = _MAJOR.split()
    tender = sorted(tender_currencies() - set(major))
    every = [*major, *tender]
    thousands = [Pattern("compact", "long", _compact("long"))]
    millions = [*thousands, Pattern("compact", "short", _compact("short"))]
    return [
        numbers_family("major-money", 9, _money_patterns(major), _draw_price),
        numbers_family("money", 6, _money_patterns(tender), _draw_price),
        numbers_family(
            "short-money",
            2,
            [Pattern(f"money:{each}", "short", _short_money(each)) for each in every],
            _draw_millions,
        ),
        numbers_family("percent", 2.5, [Pattern("percent", "standard", _percent)], _draw_percent),
        numbers_family("thousands", 0.5, thousands, _draw_thousands),
        numbers_family("millions", 2, millions, _draw_millions),
        numbers_family("number", 1.5, [Pattern("number", "decimal", _decimal)]),
    ]


def numbers_family(
    name: str,
    share: float,
    patterns: Sequence[Pattern[Decimal]],
    draw: Callable[[Draw], Decimal] | None = None,
) -> Family[Decimal]:
    """A family of numbers, which are probed and named alike.

    Args:
        name: The family's.
        share: The family's.
        patterns: The family's.
        draw: A value; None draws what a screen shows, from 0.1 to millions.
    """
    return Family(name, share, patterns, draw or _draw_number, _PROBES, show=_digits)


def _money_patterns(currencies: Sequence[str]) -> list[Pattern[Decimal]]:
    return [
        Pattern(f"money:{currency}", style, _money(currency, style))
        for currency in currencies
        for style in _MONEY_STYLES
    ]


# --- how they are said --------------------------------------------------------------------------------


def _money(currency: str, style: MoneyStyle) -> Say[Decimal]:
    return lambda value, locale: numbers.format_currency(value, currency, locale=locale, format_type=style)


def _short_money(currency: str) -> Say[Decimal]:
    return lambda value, locale: numbers.format_compact_currency(
        value, currency, locale=locale, fraction_digits=2
    )


def _compact(length: Literal["short", "long"]) -> Say[Decimal]:
    return lambda value, locale: numbers.format_compact_decimal(
        value, format_type=length, locale=locale, fraction_digits=2
    )


def _percent(value: Decimal, locale: Locale) -> str:
    return numbers.format_percent(value / 100, locale=locale, decimal_quantization=False)


def _decimal(value: Decimal, locale: Locale) -> str:
    return numbers.format_decimal(value, locale=locale)


# --- how they are drawn and named ---------------------------------------------------------------------


def _draw_number(draw: Draw) -> Decimal:
    """From 0.1 to millions, with up to two decimals: what a screen shows."""
    places = draw.pick((0, 0, 0, 1, 1, 2))
    most = (
        draw.pick((20, 1_000, 1_000, 10_000, 1_000_000)) if places == 0 else draw.pick((100, 1_000, 100_000))
    )
    return Decimal(draw.between(1, most)).scaleb(-places)


def _draw_price(draw: Draw) -> Decimal:
    """With cents, without, and just below a whole; some are negative."""
    cents = draw.between(1, draw.pick((10_000, 100_000, 1_000_000, 100_000_000)))
    match draw.below(4):
        case 0:
            cents = cents // 100 * 100 + 100
        case 1:
            cents = cents // 100 * 100 + 99
    return Decimal(cents if draw.below(8) else -cents).scaleb(-2)


def _draw_percent(draw: Draw) -> Decimal:
    return Decimal(draw.between(1, draw.pick((100, 1_000)))).scaleb(-draw.pick((0, 1, 2)))


def _draw_thousands(draw: Draw) -> Decimal:
    return Decimal(draw.between(1, 999)) * draw.pick((1_000, 100))


def _draw_millions(draw: Draw) -> Decimal:
    """Three digits at most: no compact number says more."""
    return Decimal(draw.between(1, 999)).scaleb(draw.between(6, 9))


def _digits(value: Decimal) -> str:
    return f"{value.normalize():f}"


def tender_currencies() -> set[str]:
    """Currencies that were tender somewhere on one fixed day: results must not change with today's date."""
    territories = get_global("territory_currencies")
    return {
        currency
        for territory in territories
        for currency in numbers.get_territory_currencies(territory, _TENDER_ON, _TENDER_ON)
    }
