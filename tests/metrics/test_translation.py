import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from edgelr.errors import MissingRequirementError
from edgelr.metrics import METRICS
from edgelr.metrics.bootstrap import difference, interval
from edgelr.metrics.translation import signatures, translation_scores

ROOT = Path(__file__).parent.parent.parent
REFERENCES = [
    "Der Hund läuft schnell durch den großen Garten.",
    "Sie kauft am 24. Dezember 1.250 Äpfel, Birnen und Brot.",
    "Wie spät ist es?",
    "Das ist ein ziemlich langer Satz, in dem viele Wörter zweimal stehen, viele Wörter zweimal.",
]
OUTPUTS = [
    "Der Hund rennt schnell durch den Garten.",
    "Sie kauft am 24. Dezember 1.250 Äpfel, Birnen und Brot.",
    "Wie spät ist das ?",
    "Das ist ein langer Satz, in dem Wörter zweimal stehen.",
]
DENSE = [OUTPUTS[0], REFERENCES[1], REFERENCES[2], OUTPUTS[3]]
CORPORA = {
    "several": (OUTPUTS, REFERENCES),
    "perfect": (REFERENCES, REFERENCES),
    "one example": (OUTPUTS[:1], REFERENCES[:1]),
    "one word": (["Hund"], ["Hund"]),
    "an empty output": (["", *OUTPUTS[1:]], REFERENCES),
    "only empty outputs": ([""] * 4, REFERENCES),
    "one empty output": ([""], REFERENCES[:1]),
    "an empty reference": (OUTPUTS, ["", *REFERENCES[1:]]),
    "nothing at all": ([""], [""]),
    "no match of four words": (["a b c x y z"] * 3, ["a b c d e f"] * 3),
    "no match": (["xyz"] * 2, ["Hund", "Katze"]),
    "spaces": (["  Hund  läuft ", "\tWie spät?"], ["Hund läuft", "Wie spät?"]),
    "another script": (["犬は速く走る。", "🐶 runs"], ["犬が速く走る。", "🐶 läuft"]),
}


def noisy(seed: int, share: float, texts: int = 200) -> list[str]:
    """Texts of which a share of the words is another in each; the same seed gives the same places."""
    draw = np.random.default_rng(0)
    words = np.array([f"wort{number}" for number in range(60)])
    right = [words[draw.integers(0, 60, length)] for length in draw.integers(1, 25, texts)]
    draw = np.random.default_rng(seed)
    return [
        " ".join(np.where(draw.random(len(text)) < share, words[draw.integers(0, 60, len(text))], text))
        for text in right
    ]


@pytest.mark.parametrize("name", CORPORA)
def test_values_are_exactly_those_of_sacrebleu(name: str) -> None:
    outputs, references = CORPORA[name]
    scores = translation_scores(outputs, references, references[::-1])
    assert scores["bleu"].value == sacrebleu.corpus_bleu(outputs, [references]).score
    assert scores["chrf"].value == sacrebleu.corpus_chrf(outputs, [references]).score
    assert scores["chrf_to_dense"].value == sacrebleu.corpus_chrf(outputs, [references[::-1]]).score


def test_resamples_are_exactly_what_sacrebleu_gives_for_these_examples() -> None:
    scores = translation_scores(OUTPUTS, REFERENCES, DENSE)
    draws = np.array([[0, 0, 1, 3], [2, 2, 2, 2], [3, 2, 1, 0]])
    outputs = [[OUTPUTS[place] for place in draw] for draw in draws]
    references = [[REFERENCES[place] for place in draw] for draw in draws]
    pairs = list(zip(outputs, references, strict=True))
    assert scores["bleu"].resampled(draws).tolist() == [
        sacrebleu.corpus_bleu(drawn, [right]).score for drawn, right in pairs
    ]
    assert scores["chrf"].resampled(draws).tolist() == [
        sacrebleu.corpus_chrf(drawn, [right]).score for drawn, right in pairs
    ]


def test_shares_of_equal_outputs() -> None:
    scores = translation_scores(OUTPUTS, REFERENCES, DENSE)
    assert scores["exact_match"].value == 1 / 4
    assert scores["agreement"].value == 3 / 4


def test_the_dense_model_agrees_with_itself() -> None:
    scores = translation_scores(DENSE, REFERENCES, DENSE)
    assert tuple(scores) == METRICS["translation"]
    assert {each.examples for each in scores.values()} == {4}
    assert (scores["agreement"].value, scores["chrf_to_dense"].value) == (1.0, 100.0)


def test_intervals_are_around_their_values() -> None:
    references, candidate, dense = noisy(1, 0.0), noisy(1, 0.3), noisy(1, 0.2)
    for scores in translation_scores(candidate, references, dense).values():
        value, low, high = interval(scores)
        assert low < value < high


def test_a_worse_model_is_surely_worse_where_pairs_are_compared() -> None:
    references, candidate, dense = noisy(1, 0.0), noisy(2, 0.25), noisy(2, 0.2)
    worse = translation_scores(candidate, references, dense)
    better = translation_scores(dense, references, dense)
    for metric in ("bleu", "chrf"):
        change, low, high = difference(worse[metric], better[metric])
        assert change == worse[metric].value - better[metric].value
        assert low < change < high < 0
        _, own_low, own_high = interval(worse[metric])
        assert high - low < own_high - own_low


def test_tokenized_text_is_no_reason_to_speak(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["Ein Satz ."] * 120
    translation_scores(texts, texts, texts)
    assert capsys.readouterr() == ("", "")


def test_signatures_name_settings_and_version() -> None:
    found = signatures()
    assert {name: re.sub(r"version:[\d.]+$", "version:x", text) for name, text in found.items()} == {
        "bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:x",
        "chrf": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:x",
        "chrf_to_dense": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:x",
    }
    assert sacrebleu.__version__ in found["bleu"]
    assert set(found) <= set(METRICS["translation"])


# --- faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outputs", "dense"), [([], []), (["a"], ["b"]), (["a", "b"], ["a"])])
def test_lists_that_do_not_fit_are_refused(outputs: list[str], dense: list[str]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        translation_scores(outputs, outputs if not outputs else ["a", "b"], dense)


@pytest.mark.parametrize("missing", ["sacrebleu", "sacrebleu.metrics.chrf"])
def test_without_sacrebleu_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    for call in (signatures, lambda: translation_scores(["a"], ["a"], ["a"])):
        with pytest.raises(MissingRequirementError, match=r"sacrebleu.*\n.*edgelr\[translation\]"):
            call()


def test_it_needs_no_torch() -> None:
    code = """if True:
        import sys
        sys.modules["torch"] = sys.modules["transformers"] = None
        from edgelr.metrics.translation import signatures, translation_scores
        assert "sacrebleu" not in sys.modules, "only those pay for it who use it"
        print(translation_scores(["a b"], ["a b"], ["a c"])["exact_match"].value, len(signatures()))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1.0 3\n"), done.stderr
