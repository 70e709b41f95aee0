"""Dates, times and intervals as apps show them, by Babel.

Import this only where Babel is known to be there.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from babel import Locale, dates

from edgelr.load.cldr_families import Family, Pattern, Say
from edgelr.load.draw import Draw

Date = datetime.date
DateTime = datetime.datetime
Interval = tuple[DateTime, DateTime]

_FIRST, _LAST = Date(1900, 1, 1), Date(2100, 12, 31)
# Two digits of a year mean one of these, so that such a text means one date.
_SHORT_FIRST, _SHORT_LAST = Date(1950, 1, 1), Date(2049, 12, 31)
# May, whose name is its own abbreviation in several languages, shows contradictions that April hides.
_DATES = (Date(2031, 4, 5), Date(2024, 5, 6), Date(1999, 12, 31), Date(2024, 2, 29))
_MOMENTS = tuple(
    DateTime(date.year, date.month, date.day, *time)
    for date in _DATES
    for time in ((13, 45, 30), (0, 5, 7), (9, 30, 59))
)
# A style of CLDR or a skeleton (a set of fields). Skeletons first: a spelled month is to stay spelled.
_DATE_STYLES = ("full", "long", "yMMMd", "yMMMEd", "yMd", "yMEd", "medium")
_STYLES = {"full", "long", "medium", "short"}


def families() -> list[Family[Any]]:
    """All families of dates and times, those first that may claim a text."""
    return [
        *_date_families(),
        *_time_families(),
        *_date_time_families(),
        *_interval_families(),
    ]


def _date_families() -> list[Family[Any]]:
    return [
        Family("date", 15, [Pattern("date", name, _date(name)) for name in _DATE_STYLES], _draw_date, _DATES),
        Family("short-date", 3, [Pattern("date", "short", _date("short"))], _draw_short_date, _DATES),
        _parts("day", 1.5, ("MMMMd", "MMMd", "Md"), "%m-%d"),
        _parts("weekday", 1, ("MMMEd", "MEd"), "%m-%d-%u"),
        _parts("month", 2.5, ("yMMMM", "yMMM", "yM"), "%Y-%m"),
        Family(
            "quarter",
            1,
            [Pattern("quarter", name, _date(name)) for name in ("yQQQQ", "yQQQ")],
            _draw_date,
            _DATES,
            show=lambda value: f"{value.year}-Q{(value.month + 2) // 3}",
        ),
    ]


def _time_families() -> list[Family[Any]]:
    minutes = [Pattern("time", "short", _time("short")), Pattern("time", "Bhm", _time("Bhm"))]
    seconds = [Pattern("time", name, _time(name)) for name in ("medium", "long", "full")]
    return [
        Family("minutes", 2, minutes, _draw_minute, _MOMENTS, show=lambda value: f"{value:%H:%M}"),
        Family("seconds", 2.5, seconds, _draw_second, _MOMENTS, show=lambda value: f"{value:%H:%M:%S}"),
    ]


def _date_time_families() -> list[Family[Any]]:
    def patterns(time: str) -> list[Pattern[DateTime]]:
        styles = ("full", "long", "yMMMd", "yMd")
        return [Pattern("date-time", f"{date}-{time}", _date_time(date, time)) for date in styles]

    return [
        Family("date-minutes", 9, patterns("short"), _draw_minute, _MOMENTS, show=_to_minute),
        Family("date-seconds", 4, patterns("medium"), _draw_second, _MOMENTS, show=_to_second),
    ]


def _interval_families() -> list[Family[Any]]:
    def patterns(kind: str, *skeletons: str) -> list[Pattern[Interval]]:
        return [Pattern(kind, name, _interval(name)) for name in skeletons]

    days = patterns("interval", "yMMMd", "yMd", "MMMd", "yMMMEd", "MMMEd")
    months = patterns("months", "yMMMM", "yMMM")
    hours = [Pattern("hours", "short", _hours)]
    probes = [(moment, moment + datetime.timedelta(days=days)) for moment in _MOMENTS for days in (3, 40)]
    same_day = [(moment, moment + datetime.timedelta(hours=2)) for moment in _MOMENTS]
    return [
        Family("interval", 3.5, days, _draw_days, probes, show=_ends("%Y-%m-%d")),
        Family("months", 1, months, _draw_months, probes, show=_ends("%Y-%m")),
        Family("hours", 1.5, hours, _draw_hours, same_day, show=_ends("%H:%M")),
    ]


def _parts(kind: str, share: float, skeletons: Sequence[str], value: str) -> Family[Date]:
    patterns = [Pattern(kind, name, _date(name)) for name in skeletons]
    return Family(kind, share, patterns, _draw_date, _DATES, show=lambda date: date.strftime(value))


# --- how they are said --------------------------------------------------------------------------------


def _date(name: str) -> Say[Date]:
    if name in _STYLES:
        return lambda value, locale: dates.format_date(value, name, locale=locale)
    return lambda value, locale: dates.format_skeleton(name, _midnight(value), locale=locale)


def _time(name: str) -> Say[DateTime]:
    if name in _STYLES:
        return lambda value, locale: dates.format_time(value, name, locale=locale)
    return lambda value, locale: dates.format_skeleton(name, value, locale=locale)


def _date_time(date: str, time: str) -> Say[DateTime]:
    joint = date if date in _STYLES else "medium"

    def say(value: DateTime, locale: Locale) -> str:
        both = str(dates.get_datetime_format(joint, locale=locale)).replace("'", "")  # type: ignore[arg-type]
        return both.replace("{0}", _time(time)(value, locale)).replace("{1}", _date(date)(value, locale))

    return say


def _interval(skeleton: str) -> Say[Interval]:
    return lambda value, locale: dates.format_interval(*value, skeleton=skeleton, locale=locale)


def _hours(value: Interval, locale: Locale) -> str:
    """From one time of a day to another, on the clock of the locale: of twelve hours or of twenty-four."""
    twelve = "a" in dates.get_time_format("short", locale=locale).pattern
    return dates.format_interval(*value, skeleton="hm" if twelve else "Hm", locale=locale)


# --- how they are drawn and named ---------------------------------------------------------------------


def _draw_date(draw: Draw) -> Date:
    return Date.fromordinal(draw.between(_FIRST.toordinal(), _LAST.toordinal()))


def _draw_short_date(draw: Draw) -> Date:
    return Date.fromordinal(draw.between(_SHORT_FIRST.toordinal(), _SHORT_LAST.toordinal()))


def _draw_second(draw: Draw) -> DateTime:
    return _midnight(_draw_date(draw)) + datetime.timedelta(seconds=draw.below(24 * 60 * 60))


def _draw_minute(draw: Draw) -> DateTime:
    return _draw_second(draw).replace(second=0)


def _draw_days(draw: Draw) -> Interval:
    start = _midnight(_draw_date(draw))
    return start, start + datetime.timedelta(days=draw.between(1, draw.pick((6, 30, 400))))


def _draw_months(draw: Draw) -> Interval:
    start = _midnight(_draw_date(draw)).replace(day=1)
    return start, start + datetime.timedelta(days=31 * draw.between(1, 18))


def _draw_hours(draw: Draw) -> Interval:
    """Two times of one day, on the five minutes."""
    first = draw.below(24 * 12 - 1)
    last = draw.between(first + 1, 24 * 12 - 1)
    start = _midnight(_FIRST)
    return start + datetime.timedelta(minutes=5 * first), start + datetime.timedelta(minutes=5 * last)


def _midnight(date: Date) -> DateTime:
    return DateTime(date.year, date.month, date.day)


def _to_minute(value: DateTime) -> str:
    return value.isoformat(timespec="minutes")


def _to_second(value: DateTime) -> str:
    return value.isoformat(timespec="seconds")


def _ends(pattern: str) -> Callable[[Interval], str]:
    return lambda value: "/".join(end.strftime(pattern) for end in value)
