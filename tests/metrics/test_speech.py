import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

jiwer = pytest.importorskip("jiwer")

from edgelr.errors import MissingRequirementError  # noqa: E402
from edgelr.metrics.bootstrap import difference, interval  # noqa: E402
from edgelr.metrics.speech import normalized, speech_scores  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
REFERENCES = ["turn on the lights", "set a timer for ten minutes", "call emma", "what's the time"]
OUTPUTS = ["Turn on the light.", "set a timer for minutes", "call emma", "what's the the time?"]
DENSE = [OUTPUTS[0], REFERENCES[1], "call emma", "what is the time"]
CORPORA = {
    "several": (OUTPUTS, REFERENCES),
    "perfect": (REFERENCES, REFERENCES),
    "one utterance": (OUTPUTS[:1], REFERENCES[:1]),
    "an empty output": (["", *OUTPUTS[1:]], REFERENCES),
    "only empty outputs": ([""] * 4, REFERENCES),
    "longer than the references": (["a b c d e f"] * 2, ["a", "b"]),
    "another script": (["犬は速く走る", "ёж бежит"], ["犬が速く走る", "еж бежит"]),
}


def noisy(seed: int, share: float, texts: int = 200) -> list[str]:
    """Texts of which a share of the words is another in each; the same seed gives the same places."""
    draw = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(60)])
    right = [words[draw.integers(0, 60, length)] for length in draw.integers(1, 25, texts)]
    draw = np.random.default_rng(seed)
    return [
        " ".join(np.where(draw.random(len(text)) < share, words[draw.integers(0, 60, len(text))], text))
        for text in right
    ]


def plain(texts: list[str]) -> list[str]:
    return [normalized(text) for text in texts]


@pytest.mark.parametrize("name", CORPORA)
def test_rates_are_those_of_jiwer_over_all_utterances(name: str) -> None:
    outputs, references = CORPORA[name]
    scores = speech_scores(outputs, references, references[::-1])
    said, written = plain(references), plain(outputs)
    assert scores["wer"].value == pytest.approx(100 * jiwer.wer(said, written), abs=1e-12)
    assert scores["cer"].value == pytest.approx(100 * jiwer.cer(said, written), abs=1e-12)
    assert scores["wer_to_dense"].value == pytest.approx(100 * jiwer.wer(said[::-1], written), abs=1e-12)


def test_statistics_are_edits_and_lengths_of_each_utterance() -> None:
    scores = speech_scores(OUTPUTS, REFERENCES, DENSE)
    assert scores["wer"].statistics.tolist() == [[1, 4], [1, 6], [0, 2], [1, 3]]
    assert scores["cer"].statistics.tolist() == [[1, 18], [4, 27], [0, 9], [4, 15]]
    assert scores["wer_to_dense"].statistics.tolist() == [[0, 4], [1, 6], [0, 2], [2, 4]]
    assert scores["wer"].value == 100 * 3 / 15, "of all words, not the mean of four rates"


def test_resamples_are_what_jiwer_gives_for_these_utterances() -> None:
    scores = speech_scores(OUTPUTS, REFERENCES, DENSE)
    draws = np.array([[0, 0, 1, 3], [2, 2, 2, 2], [3, 2, 1, 0]])
    expected = [
        100 * jiwer.wer([plain(REFERENCES)[at] for at in draw], [plain(OUTPUTS)[at] for at in draw])
        for draw in draws
    ]
    assert scores["wer"].resampled(draws).tolist() == pytest.approx(expected, abs=1e-12)


def test_shares_of_equal_outputs() -> None:
    scores = speech_scores(OUTPUTS, REFERENCES, DENSE)
    assert scores["exact_match"].value == 1 / 4
    assert scores["agreement"].value == 2 / 4


def test_a_match_is_one_of_what_is_said_an_agreement_one_of_every_letter() -> None:
    scores = speech_scores(["Call Emma!"], ["call emma"], ["call emma"])
    assert scores["exact_match"].value == 1
    assert scores["wer_to_dense"].value == 0
    assert scores["agreement"].value == 0


def test_the_dense_model_agrees_with_itself() -> None:
    scores = speech_scores(DENSE, REFERENCES, DENSE)
    assert tuple(scores) == ("wer", "cer", "exact_match", "wer_to_dense", "agreement")
    assert {each.examples for each in scores.values()} == {4}
    assert (scores["agreement"].value, scores["wer_to_dense"].value) == (1, 0)


# --- where nothing was said -----------------------------------------------------------------------------


def test_silence_that_stays_empty_is_right() -> None:
    scores = speech_scores([""], [""], [""])
    found = {name: each.value for name, each in scores.items()}
    assert found == {"wer": 0, "cer": 0, "exact_match": 1, "wer_to_dense": 0, "agreement": 1}


def test_words_where_nothing_was_said_are_insertions() -> None:
    scores = speech_scores(["thank you", "call emma"], ["", "call emma"], ["", "call emma"])
    assert scores["wer"].value == 100
    assert scores["exact_match"].value == 1 / 2


def test_of_nothing_said_at_all_a_rate_is_one_of_a_single_word() -> None:
    scores = speech_scores(["thank you", "..."], ["", ""], ["", ""])
    assert scores["wer"].value == 200
    assert scores["cer"].value == 900
    assert np.isfinite(interval(scores["wer"])).all()


def test_marks_alone_are_nothing() -> None:
    assert speech_scores(["… ♪ -"], [""], [""])["wer"].value == 0


# --- intervals ------------------------------------------------------------------------------------------


def test_intervals_are_around_their_values() -> None:
    references, candidate, dense = noisy(1, 0.0), noisy(1, 0.3), noisy(1, 0.2)
    for scores in speech_scores(candidate, references, dense).values():
        value, low, high = interval(scores)
        assert low < value < high


def test_a_worse_model_is_surely_worse_where_pairs_are_compared() -> None:
    references, candidate, dense = noisy(1, 0.0), noisy(2, 0.25), noisy(2, 0.2)
    worse = speech_scores(candidate, references, dense)
    better = speech_scores(dense, references, dense)
    for metric in ("wer", "cer"):
        change, low, high = difference(worse[metric], better[metric])
        assert change == pytest.approx(worse[metric].value - better[metric].value)
        assert 0 < low < change < high
        _, own_low, own_high = interval(worse[metric])
        assert high - low < own_high - own_low


def test_a_model_is_exactly_as_good_as_itself() -> None:
    scores = speech_scores(OUTPUTS, REFERENCES, DENSE)
    assert {difference(each, each) for each in scores.values()} == {(0, 0, 0)}


# --- what is the same text ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Turn ON\tthe\n lights! ", "turn on the lights"),
        ("What's the time?", "what's the time"),
        ("What’s the time", "what's the time"),
        ("rock 'n' roll, the dogs' 'best' o'clock", "rock n roll the dogs best o'clock"),
        ("twenty-one", "twenty one"),
        ("a.m.", "a m"),
        ("3.5 %", "3 5"),
        ("5€ + x_y", "5 x y"),
        ("[BLANK_AUDIO] ♪", "blank audio"),
        ("Straße ﬁnal １２", "strasse final 12"),
        ("cafe\u0301", "café"),
        ("नमस्ते दुनिया।", "नमस्ते दुनिया"),
        ("犬は、速く走る。", "犬は 速く走る"),
        ("' '' - …", ""),
        ("", ""),
    ],
)
def test_what_is_not_said_is_taken_out(text: str, expected: str) -> None:
    assert normalized(text) == expected


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_a_normalized_text_has_words_and_single_spaces(text: str) -> None:
    found = normalized(text)
    assert found == " ".join(found.split())
    assert not set(found) & set('.,;:!?"-()[]+=$')


@given(st.text(alphabet="abÄß éİǅ'’.-_ﬁ１ \t", max_size=20))
def test_normalizing_again_changes_nothing(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


@given(st.text(alphabet="ab '.-", max_size=20))
def test_case_and_marks_do_not_matter(text: str) -> None:
    assert normalized(f"“{text.upper()}” !") == normalized(text)


# --- faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outputs", "dense"), [([], []), (["a"], ["b"]), (["a", "b"], ["a"])])
def test_lists_that_do_not_fit_are_refused(outputs: list[str], dense: list[str]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        speech_scores(outputs, outputs if not outputs else ["a", "b"], dense)


def test_without_jiwer_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(MissingRequirementError, match=r"jiwer.*\n.*edgelr\[speech\]"):
        speech_scores(["a"], ["a"], ["a"])


def test_it_needs_no_torch() -> None:
    code = """if True:
        import sys
        sys.modules["torch"] = sys.modules["transformers"] = None
        from edgelr.metrics.speech import speech_scores
        assert "jiwer" not in sys.modules, "only those pay for it who use it"
        print(speech_scores(["a b"], ["a b"], ["a c"])["wer_to_dense"].value)
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "50.0\n"), done.stderr
