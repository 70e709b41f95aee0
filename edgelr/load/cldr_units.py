"""Numbers with units, rates and durations as apps show them, by Babel.

Import this only where Babel is known to be there.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any, Literal

from babel import Locale, dates, units

from edgelr.load.cldr_families import Family, Pattern, Say
from edgelr.load.cldr_numbers import numbers_family

Length = Literal["short", "long", "narrow"]

# Those that apps show, of the many that CLDR has, by its categories.
_UNITS = {
    "acceleration": "g-force",
    "angle": "degree radian revolution",
    "area": (
        "acre hectare square-centimeter square-foot square-inch square-kilometer "
        "square-meter square-mile square-yard"
    ),
    "concentr": "karat milligram-ofglucose-per-deciliter millimole-per-liter permille",
    "consumption": "liter-per-100-kilometer liter-per-kilometer mile-per-gallon",
    "digital": ("bit byte gigabit gigabyte kilobit kilobyte megabit megabyte petabyte terabit terabyte"),
    "duration": ("century day decade hour microsecond millisecond minute month nanosecond second week year"),
    "electric": "ampere milliampere ohm volt",
    "energy": "calorie foodcalorie joule kilocalorie kilojoule kilowatt-hour",
    "force": "newton pound-force",
    "frequency": "gigahertz hertz kilohertz megahertz",
    "graphics": "dot-per-inch megapixel pixel pixel-per-inch",
    "length": (
        "centimeter decimeter foot inch kilometer light-year meter micrometer mile "
        "millimeter nanometer nautical-mile point yard"
    ),
    "light": "lumen lux",
    "mass": "carat gram kilogram microgram milligram ounce pound stone ton tonne",
    "power": "gigawatt horsepower kilowatt megawatt milliwatt watt",
    "pressure": (
        "atmosphere bar hectopascal inch-ofhg kilopascal megapascal millibar "
        "millimeter-ofhg pound-force-per-square-inch"
    ),
    "speed": "kilometer-per-hour knot meter-per-second mile-per-hour",
    "temperature": "celsius fahrenheit kelvin",
    "torque": "newton-meter",
    "volume": (
        "barrel bushel centiliter cubic-centimeter cubic-foot cubic-inch "
        "cubic-kilometer cubic-meter cubic-yard cup cup-metric deciliter fluid-ounce "
        "gallon hectoliter liter megaliter milliliter pint quart tablespoon teaspoon"
    ),
}
_RATES = (
    ("digital-gigabyte", "duration-month"),
    ("digital-kilobit", "duration-second"),
    ("digital-megabit", "duration-second"),
    ("digital-megabyte", "duration-minute"),
    ("energy-kilowatt-hour", "duration-day"),
    ("length-centimeter", "duration-year"),
    ("length-foot", "duration-minute"),
    ("length-kilometer", "duration-day"),
    ("length-millimeter", "duration-hour"),
    ("mass-kilogram", "volume-cubic-meter"),
    ("mass-milligram", "volume-deciliter"),
    ("volume-liter", "duration-minute"),
    ("volume-milliliter", "duration-hour"),
)
_LENGTHS: tuple[Length, ...] = ("long", "short", "narrow")
_SPANS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SPANS |= {"month": 30 * 86400, "year": 365 * 86400}
# Two units that are said together, and the largest number of each.
_MIXED = (
    ("day", 30, "hour", 23),
    ("hour", 47, "minute", 59),
    ("minute", 120, "second", 59),
    ("year", 40, "month", 11),
    ("week", 20, "day", 6),
)


def families() -> list[Family[Any]]:
    """All families of quantities, those first that may claim a text."""
    return [
        numbers_family("unit", 16, _unit_patterns()),
        numbers_family("rate", 1.5, _rate_patterns()),
        *_duration_families(),
    ]


def _unit_patterns() -> list[Pattern[Decimal]]:
    names = [f"{category}-{unit}" for category, units in _UNITS.items() for unit in units.split()]
    return [Pattern(f"unit:{unit}", length, _unit(unit, length)) for unit in names for length in _LENGTHS]


def _rate_patterns() -> list[Pattern[Decimal]]:
    return [
        Pattern(f"unit:{top}-per-{bottom}", length, _rate(top, bottom, length))
        for top, bottom in _RATES
        for length in _LENGTHS[:2]
    ]


def _duration_families() -> list[Family[Any]]:
    plain = [
        Pattern(f"unit:duration-{unit}", f"{length}-span", _span(unit, length))
        for unit in _SPANS
        for length in _LENGTHS
    ]
    relative = [
        Pattern(f"relative:{unit}", length, _span(unit, length, direction=True))
        for unit in _SPANS
        for length in _LENGTHS[:2]
    ]
    return [
        Family("span", 1.5, plain, lambda draw: draw.between(1, 99), (1, 3, 25)),
        Family(
            "relative", 2, relative, lambda draw: draw.between(1, 99) * draw.pick((-1, 1)), (1, 3, -1, -3)
        ),
        *(_mixed_family(*pair) for pair in _MIXED),
    ]


def _mixed_family(large: str, most_large: int, small: str, most_small: int) -> Family[tuple[int, int]]:
    return Family(
        f"{large}-{small}",
        0.6,
        [Pattern(f"duration:{large}-{small}", length, _mixed(large, small, length)) for length in _LENGTHS],
        lambda draw: (draw.between(1, most_large), draw.between(1, most_small)),
        ((1, 1), (3, 5)),
        show=lambda value: f"{value[0]}-{value[1]}",
    )


# --- how they are said --------------------------------------------------------------------------------


def _unit(unit: str, length: Length) -> Say[Decimal]:
    def say(value: Decimal, locale: Locale) -> str:
        text = units.format_unit(value, unit, length, locale=locale)
        if unit in text and length != "short":
            # CLDR's root refers long and narrow to short; Babel puts the unit's identifier there instead.
            text = units.format_unit(value, unit, "short", locale=locale)
        if unit in text:
            raise LookupError(f"no pattern for {unit}")
        return text

    return say


def _rate(top: str, bottom: str, length: Length) -> Say[Decimal]:
    def say(value: Decimal, locale: Locale) -> str:
        text = units.format_compound_unit(value, top, denominator_unit=bottom, length=length, locale=locale)
        if text is None or top in text or bottom in text:
            raise LookupError(f"no pattern for {top} per {bottom}")
        return text

    return say


def _span(unit: str, length: Length, *, direction: bool = False) -> Say[int]:
    """So many of exactly this unit, never of the next larger one."""
    return lambda value, locale: dates.format_timedelta(
        datetime.timedelta(seconds=value * _SPANS[unit]),
        granularity=unit,  # type: ignore[arg-type]
        threshold=float("inf"),
        add_direction=direction,
        format=length,
        locale=locale,
    )


def _mixed(large: str, small: str, length: Length) -> Say[tuple[int, int]]:
    style = "unit" if length == "long" else f"unit-{length}"

    def say(value: tuple[int, int], locale: Locale) -> str:
        parts = [_unit(f"duration-{unit}", length) for unit in (large, small)]
        texts = [part(Decimal(number), locale) for part, number in zip(parts, value, strict=True)]
        # CLDR's root joins two units so, and Babel does not inherit it.
        joined: str = locale.list_patterns.get(style, {}).get("2", "{0}, {1}")
        return joined.format(*texts)

    return say
