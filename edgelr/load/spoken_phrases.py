"""What people say to a device: numbers, times, dates, commands, names and spelled letters, in English.

A phrase is written as it is said, in small letters and without punctuation, so that a transcript has one
right spelling only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgelr.load.draw import Draw


def listed(text: str, separator: str = " ") -> list[str]:
    """Words of a text, for lists that are read more easily as one."""
    return text.split(separator)


_ONES = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = listed("twenty thirty forty fifty sixty seventy eighty ninety")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth", "twenty": "twentieth", "thirty": "thirtieth",
}  # fmt: skip
_DAYS = listed("monday tuesday wednesday thursday friday saturday sunday")
_MONTHS = listed("january february march april may june july august september october november december")
_ROOMS = listed("kitchen bedroom bathroom hallway office garage garden attic basement balcony nursery cellar")
_SWITCHED = listed(
    "lights|lamp|heater|fan|television|radio|music|alarm|camera|sprinkler|oven|dishwasher|washing machine|"
    "coffee machine|air conditioning|vacuum cleaner",
    "|",
)
_SET = {
    "volume": "percent", "brightness": "percent", "temperature": "degrees", "heating": "degrees",
    "fan speed": "percent", "blinds": "percent", "thermostat": "degrees", "oven": "degrees",
}  # fmt: skip
_NAMES = listed(
    "alice anna ben bruno carla charles clara daniel david emma eric fiona frank grace hannah henry irene "
    "jack james jenny julia karen kevin laura leo linda lucas maria martin mia nina oliver oscar paula peter "
    "rachel robert rose sam sarah simon sophie susan thomas tina victor walter zoe"
)
_CITIES = listed(
    "amsterdam athens berlin boston cairo chicago dublin geneva hamburg helsinki istanbul lisbon london "
    "madrid melbourne milan montreal moscow munich oslo paris prague rome seattle sydney tokyo toronto "
    "vienna warsaw zurich"
)
_THINGS = listed(
    "apples bananas bread butter candles carrots cheese coffee eggs flour grapes honey lemons milk mushrooms "
    "onions oranges paper pasta pepper potatoes rice salt soap sugar tea tomatoes water yogurt"
)
_TASKS = listed(
    "call the doctor|water the plants|feed the cat|pay the rent|take out the trash|buy a ticket|"
    "charge the phone|close the window|walk the dog|pick up the parcel|send the report|book a table|"
    "clean the fridge|renew the passport|return the books|check the mail",
    "|",
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A phrase, and how it is given to a synthesizer.

    Attributes:
        text: As a transcript has it.
        spoken: With letters in capitals between commas, which are then said by their names.
    """

    text: str
    spoken: str


def phrases(seed: str) -> Iterator[Phrase]:
    """Endless phrases of every kind; the same seed gives the same ones. They may come again.

    Args:
        seed: Any text.
    """
    draw = Draw(seed)
    shares = {name: share for name, (share, _) in _KINDS.items()}
    while True:
        text = _KINDS[draw.weighted(shares)][1](draw)
        yield Phrase(text=text, spoken=spoken_form(text))


def spoken_form(text: str) -> str:
    """What a synthesizer is given: single letters by their names, but for the word "a" before a word."""
    words = text.split()
    said = []
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else "b"
        article = word == "a" and len(after) > 1 and after not in _ONES
        pause = "" if (word, after) in {("a", "m"), ("p", "m")} else ","
        said.append(f"{word.upper()}{pause}" if len(word) == 1 and not article else word)
    return " ".join(said).rstrip(",")


def in_words(number: int) -> str:
    """A number below a billion as it is said, without "and" and hyphens.

    Args:
        number: From 0 to 999,999,999.

    Raises:
        ValueError: It is negative or larger.
    """
    if not 0 <= number < 10**9:
        raise ValueError(f"{number} is not from 0 to 999,999,999")
    if number < 20:
        return _ONES[number]
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            return f"{in_words(number // size)} {name}" + (f" {in_words(rest)}" if rest else "")
    tens, ones = _TENS[number // 10 - 2], number % 10
    return f"{tens} {_ONES[ones]}" if ones else tens


def ordinal(number: int) -> str:
    """A number as a place in an order, such as ``twenty first``.

    Args:
        number: From 1 to 99.
    """
    *before, last = in_words(number).split()
    return " ".join((*before, _ORDINALS.get(last, f"{last}th")))


def _number(draw: Draw) -> str:
    digits = draw.between(1, 6)
    whole = in_words(draw.below(10**digits))
    if draw.below(4):
        return whole
    return f"{whole} point {_digits_of(draw, draw.between(1, 3))}"


def _digits(draw: Draw) -> str:
    return _digits_of(draw, draw.between(3, 8))


def _digits_of(draw: Draw, count: int) -> str:
    return " ".join(_ONES[draw.below(10)] for _ in range(count))


def _time(draw: Draw) -> str:
    hour = in_words(draw.between(1, 12))
    match draw.below(4):
        case 0:
            return f"{hour} {draw.pick(('a m', 'p m'))}"
        case 1:
            return f"{draw.pick(('half past', 'quarter past', 'quarter to'))} {hour}"
        case 2:
            return f"{in_words(draw.between(2, 29))} minutes {draw.pick(('past', 'to'))} {hour}"
        case _:
            minute = draw.between(1, 59)
            said = in_words(minute) if minute > 9 else f"oh {in_words(minute)}"
            return f"{hour} {said} {draw.pick(('a m', 'p m'))}"


def _date(draw: Draw) -> str:
    day, month = ordinal(draw.between(1, 31)), draw.pick(_MONTHS)
    said = draw.pick((f"{month} {day}", f"the {day} of {month}"))
    if not draw.below(2):
        said = f"{draw.pick(_DAYS)} {said}"
    if not draw.below(3):
        said += f" twenty {in_words(draw.between(10, 49))}"
    return said


def _span(draw: Draw) -> str:
    unit = draw.pick(("second", "minute", "hour", "day"))
    count = draw.between(1, 60)
    return f"one {unit}" if count == 1 else f"{in_words(count)} {unit}s"


def _switch(draw: Draw) -> str:
    action, thing = draw.pick(("on", "off")), draw.pick(_SWITCHED)
    where = draw.pick(_ROOMS)
    turned = draw.pick((f"turn {action} the {thing}", f"switch {action} the {thing}"))
    return draw.pick((f"{turned} in the {where}", f"turn the {where} {thing} {action}"))


def _setting(draw: Draw) -> str:
    what = draw.pick(sorted(_SET))
    where = draw.pick(("", "", f" in the {draw.pick(_ROOMS)}"))
    return f"set the {what}{where} to {in_words(draw.between(1, 100))} {_SET[what]}"


def _timer(draw: Draw) -> str:
    match draw.below(4):
        case 0:
            return f"set a timer for {_span(draw)}"
        case 1:
            return f"wake me up at {_time(draw)}"
        case 2:
            return f"set an alarm for {_time(draw)} on {draw.pick(_DAYS)}"
        case _:
            return f"remind me to {draw.pick(_TASKS)} in {_span(draw)}"


def _asked(draw: Draw) -> str:
    match draw.below(5):
        case 0:
            return (
                f"call {draw.pick(_NAMES)} {draw.pick(('', 'at home', 'at work', 'on the mobile'))}".strip()
            )
        case 1:
            return f"send a message to {draw.pick(_NAMES)} and {draw.pick(_NAMES)}"
        case 2:
            return f"what is the weather in {draw.pick(_CITIES)} on {draw.pick(_DAYS)}"
        case 3:
            return f"navigate from {draw.pick(_CITIES)} to {draw.pick(_CITIES)}"
        case _:
            return f"remind {draw.pick(_NAMES)} to {draw.pick(_TASKS)} on {draw.pick(_DAYS)}"


def _shopping(draw: Draw) -> str:
    count = in_words(draw.between(2, 40))
    if draw.below(2):
        return f"add {count} {draw.pick(_THINGS)} to the list"
    return f"{count} {draw.pick(_THINGS)} and {in_words(draw.between(2, 40))} {draw.pick(_THINGS)}"


def _spelled(draw: Draw) -> str:
    letters = " ".join(draw.pick(_LETTERS) for _ in range(draw.between(2, 5)))
    match draw.below(3):
        case 0:
            return f"{letters} {_digits_of(draw, draw.between(1, 4))}"
        case 1:
            return f"spell {letters}"
        case _:
            return letters


# Kind -> its share, and what draws it.
_KINDS: dict[str, tuple[float, Callable[[Draw], str]]] = {
    "number": (14, _number),
    "digits": (8, _digits),
    "time": (12, _time),
    "date": (14, _date),
    "switch": (12, _switch),
    "setting": (8, _setting),
    "timer": (10, _timer),
    "asked": (10, _asked),
    "shopping": (6, _shopping),
    "spelled": (6, _spelled),
}
