"""Translation pairs from Unicode's CLDR: one value, as an app would show it in either of two languages.

Dates, times, amounts, money, durations, names and lists of them are what every localized app has, and CLDR
says how each is written in hundreds of languages. Babel carries that data, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from edgelr.errors import MissingRequirementError, UsageError
from edgelr.examples import Translation
from edgelr.load.cldr_families import UNSAYABLE, Family, Owned, Wording, plain
from edgelr.load.draw import Draw
from edgelr.progress import Progress
from edgelr.recipe.faults import did_you_mean

if TYPE_CHECKING:
    from babel import Locale

_LISTS_SHARE = 16.0  # beside the families' own shares, whose sum is near 100
_PATIENCE = 300  # draws without anything new until a family counts as told in full
_MOST_ALIKE = 0.04  # the share of pairs whose texts may be the same: nothing is translated there
_TOLD_EVERY = 1_000


def collect(languages: tuple[str, str], count: int, progress: Progress) -> tuple[Translation, ...]:
    """Render values of many kinds in two languages.

    The same arguments give the same pairs in the same order, and a larger ``count`` only adds to them. No two
    pairs have the same source. A pair's ``group`` is its value, whatever the pattern: a value of the test is
    never one that was trained on. A list's value is the combination of its items.

    Args:
        languages: Source and target, such as ``("en", "de")``; any locale of CLDR, also ``("en", "pt-BR")``.
        count: How many pairs; fewer are given only when the languages have no more.
        progress: Where to show how far it is.

    Raises:
        MissingRequirementError: Babel is not installed.
        UsageError: A language is not one of CLDR's, or both are the same.
    """
    try:
        import babel  # noqa: F401 - the modules that make the texts need it
    except ImportError as error:
        raise MissingRequirementError(
            "Babel is not installed", "pip install 'edgelr[translation]'"
        ) from error
    locales = _locale(languages[0]), _locale(languages[1])
    if locales[0] == locales[1]:
        raise UsageError(f"task.data.languages: source and target are both '{languages[0]}'")
    pairs: list[Translation] = []
    with progress.bar(f"rendering CLDR in {languages[0]} and {languages[1]}", count) as advance:
        for pair in _distinct(_wordings(locales), locales):
            if len(pairs) >= count:
                break
            pairs.append(pair)
            if len(pairs) % _TOLD_EVERY == 0:
                advance(_TOLD_EVERY)
    return tuple(pairs)


def _locale(name: str) -> Locale:
    from babel import Locale, UnknownLocaleError, localedata

    try:
        return Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError) as error:
        known = localedata.locale_identifiers()
        called = {title.casefold(): code for code, title in Locale("en").languages.items() if code in known}
        code = called.get(name.strip().casefold())
        near = f"; did you mean '{code}'?" if code else did_you_mean(name, known)
        raise UsageError(
            f"task.data.languages: '{name}' is not a locale of CLDR{near}",
            "locales are named like 'de' or 'pt-BR'",
        ) from error


def _wordings(locales: tuple[Locale, Locale]) -> dict[str, tuple[float, Callable[[Draw], Wording]]]:
    """What draws wordings, by the name of the family, with its share."""
    from edgelr.load import cldr_dates, cldr_names, cldr_numbers, cldr_units

    owned = Owned(locales)
    every: list[Family[Any]] = [
        *cldr_dates.families(),
        *cldr_units.families(),
        *cldr_numbers.families(),
        *cldr_names.families(locales),
    ]
    families = [owned.admit(family) for family in every]
    drawn = {family.name: (family.share, family.wording) for family in families if family.patterns}
    return drawn | {"list": (_LISTS_SHARE, cldr_names.lists_of(families))}


def _distinct(
    wordings: dict[str, tuple[float, Callable[[Draw], Wording]]], locales: tuple[Locale, Locale]
) -> Iterator[Translation]:
    """Pairs with a source that no earlier one has, from every family in proportion to its share."""
    draws = {name: Draw(name) for name in wordings}
    shares = {name: share for name, (share, _) in wordings.items()}
    idle = dict.fromkeys(wordings, 0)
    which = Draw("family")
    seen: set[str] = set()
    alike = 0
    while shares:
        name = which.weighted(shares)
        pair = _pair(wordings[name][1](draws[name]), locales)
        same = pair is not None and pair.source == pair.target
        if pair is None or pair.source in seen or (same and alike >= _MOST_ALIKE * len(seen)):
            idle[name] += 1
            if idle[name] > _PATIENCE:
                del shares[name]
            continue
        idle[name] = 0
        seen.add(pair.source)
        alike += same
        yield pair


def _pair(wording: Wording, locales: tuple[Locale, Locale]) -> Translation | None:
    """The wording in both languages; None where one of them lacks what it takes."""
    try:
        source, target = (plain(wording.say(locale)) for locale in locales)
    except UNSAYABLE:
        return None
    if not source or not target:
        return None
    return Translation(
        id=f"{wording.group}#{wording.pattern}", group=wording.group, source=source, target=target
    )
