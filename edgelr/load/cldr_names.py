"""Names of territories, languages, currencies, months and weekdays, and lists of anything, by Babel.

Import this only where Babel is known to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from babel import Locale, dates, lists, localedata

from edgelr.load.cldr_families import Family, Pattern, Say, Wording
from edgelr.load.cldr_numbers import tender_currencies
from edgelr.load.draw import Draw

_LIST_STYLES = {"standard": 3.0, "or": 2.0, "standard-short": 0.7}  # and how often each is drawn
# How often values of a family are listed. Names most: each is a word or two that nothing else gives away, and
# lists are where a name that is held out has been seen in training.
_LISTED = {
    "territory": 6.0,
    "language": 5.0,
    "currency": 3.0,
    "month-name": 1.0,
    "weekday-name": 1.0,
    "date": 1.5,
    "day": 1.0,
    "minutes": 1.0,
    "unit": 2.0,
    "major-money": 1.0,
    "percent": 0.5,
}
_LONGEST = 4  # items of a list; a family with fewer values than that is not listed
_NO_PLACES = {"QO", "XA", "XB", "ZZ"}  # pseudo-locales, and what CLDR keeps for its own use


def families(languages: tuple[Locale, Locale]) -> list[Family[Any]]:
    """All families of names.

    Args:
        languages: Only what has a name in both is named.
    """
    territories, tongues, currencies = (
        sorted(set.intersection(*(set(names(locale)) for locale in languages)))
        for names in (_territories, _languages, _currencies)
    )
    return [
        _names("territory", 1, territories, lambda code, locale: locale.territories[code]),
        _names("language", 1, tongues, lambda code, locale: locale.languages[code]),
        _names("currency", 0.5, currencies, lambda code, locale: locale.currencies[code]),
        _names("locale", 1.5, _locales(tongues, territories), _locale_name),
        _names("month-name", 0.1, range(1, 13), _month_name),
        _names("weekday-name", 0.1, range(7), _weekday_name),
    ]


def lists_of(families: Sequence[Family[Any]]) -> Callable[[Draw], Wording]:
    """What draws lists of the values of some of ``families``, those that apps list."""
    listable = {
        family.name: family for family in families if family.patterns and len(family.probes) >= _LONGEST
    }
    shares = {name: share for name, share in _LISTED.items() if name in listable}
    return lambda draw: listed(listable[draw.weighted(shares)], draw.weighted(_LIST_STYLES), draw)


def listed(family: Family[Any], style: str, draw: Draw) -> Wording:
    """A list of two to four values of one family, all said in one pattern.

    The combination is the value: in another order, or joined by another word, it is the same one.
    """
    pattern = draw.pick(family.patterns)
    count = draw.between(2, _LONGEST)
    values = [family.draw(draw)]
    while len(values) < count:
        value = family.draw(draw)
        values += [value] if family.show(value) not in map(family.show, values) else []
    shown = [family.show(value) for value in values]
    combination = sorted(shown)
    order = "".join(str(combination.index(name)) for name in shown)

    def say(locale: Locale) -> str:
        items = [pattern.say(value, locale) for value in values]
        return lists.format_list(items, style, locale)  # type: ignore[arg-type] # a name of a style

    group = f"list:{pattern.kind}:{'+'.join(combination)}"
    return Wording(group, f"{style}-{pattern.name}-{order}", say)


def _names(name: str, share: float, values: Sequence[Any], say: Say[Any]) -> Family[Any]:
    return Family(
        name, share, [Pattern(name, "name", say)], lambda draw: draw.pick(values), values[:_LONGEST]
    )


def _territories(locale: Locale) -> set[str]:
    return set(locale.territories) - _NO_PLACES


def _languages(locale: Locale) -> set[str]:
    """Those that CLDR has a locale of: the others are hardly ever an app's."""
    return {name.split("_")[0] for name in localedata.locale_identifiers()} & set(locale.languages)


def _currencies(locale: Locale) -> set[str]:
    return tender_currencies() & set(locale.currencies)


def _locales(languages: Sequence[str], territories: Sequence[str]) -> list[str]:
    """Those of a language in a territory, such as ``de_AT``."""
    parts = (name.split("_") for name in localedata.locale_identifiers())
    known = set(languages), set(territories)
    return sorted(
        "_".join(pair) for pair in parts if len(pair) == 2 and pair[0] in known[0] and pair[1] in known[1]
    )


def _locale_name(name: str, locale: Locale) -> str:
    language, territory = name.split("_")
    said = Locale(language, territory).get_display_name(locale)
    if said is None:
        raise LookupError(f"no name of {name}")
    return said


def _month_name(month: int, locale: Locale) -> str:
    return str(dates.get_month_names("wide", "stand-alone", locale)[month])


def _weekday_name(day: int, locale: Locale) -> str:
    return str(dates.get_day_names("wide", "stand-alone", locale)[day])
