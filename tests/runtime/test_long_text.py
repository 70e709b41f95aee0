import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelr.runtime.long_text import pieces_of


def words_fit(text: str) -> bool:
    """At most five words, of 30 characters in all."""
    return len(text.split()) <= 5 and len(text) <= 30


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("short as it is ", ["short as it is "]),
        ("One two. Three four! Five six seven.", ["One two. Three four!", "Five six seven."]),
        ('He said "no." Then he went on and on.', ['He said "no."', "Then he went on and", "on."]),
        ("one two three four five six", ["one two three four five", "six"]),
        ("one two\nthree four five six", ["one two", "three four five six"]),
        ("x" * 70, ["x" * 30, "x" * 30, "x" * 10]),
        ("今日はいい天気です。" * 4, ["今日はいい天気です。" * 3, "今日はいい天気です。"]),
        ("version 3.11 is fine, and 3.12 too", ["version 3.11 is fine, and", "3.12 too"]),
    ],
)
def test_cuts_are_at_sentences_else_at_spaces_else_anywhere(text: str, pieces: list[str]) -> None:
    assert pieces_of(text, words_fit) == pieces


def test_a_mark_stays_with_its_sentence() -> None:
    assert pieces_of("あ" * 30 + "。い", words_fit) == ["あ" * 30, "。い"], "it does not fit"
    assert pieces_of("あ" * 29 + "。い", words_fit) == ["あ" * 29 + "。", "い"]


def test_every_piece_has_the_lead() -> None:
    pieces = pieces_of(">>fra<< one two. three four five.", words_fit, ">>fra<<")
    assert pieces == [">>fra<<one two.", ">>fra<<three four five."]
    assert pieces_of(">>fra<< one two.", words_fit, ">>fra<<") == [">>fra<< one two."]


def test_what_never_fits_is_cut_to_characters() -> None:
    assert pieces_of("a bc", lambda _: False) == ["a", "b", "c"]


def test_a_shorter_text_may_have_more_tokens() -> None:
    def odd(text: str) -> bool:
        return len(text) <= 10 and len(text) % 3 != 1

    pieces = pieces_of("abcdefghij" * 3, odd)
    assert "".join(pieces) == "abcdefghij" * 3
    assert all(odd(piece) or len(piece) == 1 for piece in pieces)


def test_a_long_text_is_looked_at_in_parts() -> None:
    longest = 0

    def fits(text: str) -> bool:
        nonlocal longest
        if len(text) < 10**6:
            longest = max(longest, len(text))
        return len(text) <= 300

    assert len(pieces_of("word " * 200_000, fits)) > 3000
    assert longest < 3000, "the rest is not tokenized again for every piece"


@given(st.text(alphabet="ab .!?\n。\N{GRINNING FACE}", max_size=300))
def test_nothing_but_spaces_is_lost(text: str) -> None:
    pieces = pieces_of(text, words_fit)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(words_fit(piece) for piece in pieces)
