"""What a kind of localized text is made of: values, the patterns that say them, and how both are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edgelr.load.draw import Draw

if TYPE_CHECKING:
    from babel import Locale

T = TypeVar("T")
Say = Callable[[T, "Locale"], str]

# What Babel raises where a locale lacks a pattern: it does not follow all of CLDR's aliases.
UNSAYABLE = (LookupError, ValueError, AttributeError, NotImplementedError)


# The share of a pattern's probes that may contradict an earlier pattern: May 5 has one text, long or short.
_MOST_CONTRADICTED = 0.25


@dataclass(frozen=True)
class Wording:
    """One value in one pattern, ready to be said in any locale.

    Attributes:
        group: The kind and the value, such as ``date:2031-04-05``.
        pattern: How it is said, such as ``long``; with ``group`` it names the text.
        say: The text in a locale.
    """

    group: str
    pattern: str
    say: Callable[[Locale], str]


@dataclass(frozen=True)
class Pattern(Generic[T]):
    """One way to say values of a kind.

    Attributes:
        kind: What is said, such as ``date`` or ``money:EUR``.
        name: How, such as ``long``; distinct within the kind.
        say: The text of a value in a locale.
    """

    kind: str
    name: str
    say: Say[T]


@dataclass(frozen=True)
class Family(Generic[T]):
    """Values of one type, and the patterns that say them.

    Attributes:
        name: Distinct among families; seeds their draws.
        share: Of all texts, in proportion to the shares of the others.
        patterns: Those that may be used.
        draw: A value.
        probes: Values that show whether two patterns contradict each other.
        show: A value's name; values with the same name are the same value.
    """

    name: str
    share: float
    patterns: Sequence[Pattern[T]]
    draw: Callable[[Draw], T]
    probes: Sequence[T]
    show: Callable[[T], str] = field(default=str)

    def wording(self, draw: Draw) -> Wording:
        """A random value in a random pattern."""
        pattern, value = draw.pick(self.patterns), self.draw(draw)
        return Wording(
            f"{pattern.kind}:{self.show(value)}", pattern.name, lambda locale: pattern.say(value, locale)
        )


class Owned:
    """Which text of the source language already means which text of the target language.

    "5m" may be five metres or five minutes: the first pattern to claim it keeps it, for a translation that is
    right only by chance teaches nothing.

    Args:
        languages: Source and target.
    """

    def __init__(self, languages: tuple[Locale, Locale]) -> None:
        self._languages = languages
        self._texts: dict[str, str] = {}

    def admit(self, family: Family[Any]) -> Family[Any]:
        """``family`` with those of its patterns that both languages have and no earlier one contradicts."""
        return replace(family, patterns=[each for each in family.patterns if self._claim(each, family)])

    def _claim(self, pattern: Pattern[Any], family: Family[Any]) -> bool:
        source, target = self._languages
        try:
            said = [
                (plain(pattern.say(probe, source)), plain(pattern.say(probe, target)))
                for probe in family.probes
            ]
        except UNSAYABLE:
            return False
        wrong = sum(self._texts.get(text, meaning) != meaning for text, meaning in said)
        if not said or wrong > _MOST_CONTRADICTED * len(said):
            return False
        self._texts = dict(said) | self._texts
        return True


def plain(text: str) -> str:
    """``text`` with every kind of space (no-break, thin, ...) as one plain space, and none at its ends."""
    return " ".join(text.split())
