import re
from itertools import islice

import pytest

from edgelr.load.draw import Draw
from edgelr.load.spoken_phrases import _KINDS, in_words, listed, ordinal, phrases, spoken_form


def some(seed: str, count: int) -> list[str]:
    return [phrase.text for phrase in islice(phrases(seed), count)]


# --- numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (10, "ten"),
        (19, "nineteen"),
        (20, "twenty"),
        (42, "forty two"),
        (100, "one hundred"),
        (101, "one hundred one"),
        (999, "nine hundred ninety nine"),
        (1000, "one thousand"),
        (1001, "one thousand one"),
        (12_345, "twelve thousand three hundred forty five"),
        (200_000, "two hundred thousand"),
        (1_000_000, "one million"),
        (10**9 - 1, f"{(words := 'nine hundred ninety nine')} million {words} thousand {words}"),
    ],
)
def test_a_number_in_words(number, words):
    assert in_words(number) == words


@pytest.mark.parametrize("number", [-1, 10**9])
def test_numbers_that_cannot_be_said_are_refused(number):
    with pytest.raises(ValueError, match="is not from 0 to"):
        in_words(number)


def test_no_two_numbers_are_said_alike():
    assert len({in_words(number) for number in range(20_000)}) == 20_000
    assert len({ordinal(number) for number in range(1, 100)}) == 99


def test_places_in_an_order():
    said = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", 8: "eighth", 9: "ninth"}
    said |= {12: "twelfth", 13: "thirteenth", 20: "twentieth", 21: "twenty first", 30: "thirtieth"}
    said |= {31: "thirty first"}
    assert {number: ordinal(number) for number in said} == said
    # All that a date needs are English words.
    known = {ordinal(day) for day in range(1, 32)}
    assert not {day for day in known if re.search("yth|eth(?<!ieth)|vet|onet|twot|threet", day)}


# --- phrases ------------------------------------------------------------------------------------------


def test_the_same_seed_says_the_same():
    assert some("0", 50) == some("0", 50) != some("1", 50)


def test_a_transcript_has_one_spelling_only():
    """Small letters and single spaces: what is said is the same text whoever writes it."""
    assert {text for text in some("spelling", 5000) if not re.fullmatch("[a-z]+( [a-z]+)*", text)} == set()


def test_phrases_vary_and_are_short():
    texts = some("variety", 5000)
    assert len(set(texts)) > 3500
    assert max(map(len, texts)) < 100, "some ten seconds at most"
    assert {text.split()[0] for text in texts} >= {"turn", "set", "call", "what", "spell", "add", "monday"}


@pytest.mark.parametrize("kind", _KINDS)
def test_every_kind_is_drawn_as_often_as_its_share(kind):
    share, say = _KINDS[kind]
    assert share > 0
    draw = Draw(kind)
    assert len({say(draw) for _ in range(300)}) > 100


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("call emma", "call emma"),
        ("spell a b", "spell A, B"),
        ("b f seven", "B, F, seven"),
        ("nine a m", "nine A M"),
        ("p m", "P M"),
        ("set an alarm for two p m on monday", "set an alarm for two P M, on monday"),
        ("set a timer", "set a timer"),
        ("a seven", "A, seven"),
        ("x a", "X, A"),
        ("buy a ticket", "buy a ticket"),
    ],
)
def test_letters_are_said_by_their_names(text, spoken):
    assert spoken_form(text) == spoken


def test_what_is_said_is_what_is_written():
    for phrase in islice(phrases("forms"), 2000):
        assert phrase.spoken == spoken_form(phrase.text)
        assert re.sub("[ ,]+", " ", phrase.spoken).lower() == phrase.text
        letters = [word for word in phrase.text.split() if len(word) == 1 and word != "a"]
        assert all(letter.upper() in re.split("[ ,]+", phrase.spoken) for letter in letters)


def test_a_list_is_its_words():
    assert listed("a b") == ["a", "b"]
    assert listed("a b|c", "|") == ["a b", "c"]
