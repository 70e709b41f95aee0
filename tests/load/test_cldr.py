import os
import subprocess
import sys

import pytest

from edgelr.artifacts import SPLITS
from edgelr.errors import MissingRequirementError, UsageError
from edgelr.examples import Translation
from edgelr.load.cldr import collect
from edgelr.load.splits import split_by_group
from edgelr.progress import Progress

pytest.importorskip("babel")

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def pairs() -> tuple[Translation, ...]:
    return collect(("en", "de"), 6000, QUIET)


def test_there_are_as_many_as_asked_for_and_each_is_its_own(pairs):
    assert len(pairs) == 6000
    assert len({pair.source for pair in pairs}) == 6000
    assert len({pair.id for pair in pairs}) == 6000
    assert all(pair.id.startswith(pair.group + "#") for pair in pairs)


def test_spaces_are_plain_and_texts_are_short(pairs):
    for pair in pairs:
        for text in (pair.source, pair.target):
            assert text == " ".join(text.split())
            assert 0 < len(text) < 200


def test_few_texts_are_the_same_in_both_languages(pairs):
    assert 0 < sum(pair.source == pair.target for pair in pairs) < 0.05 * len(pairs)


def test_every_kind_is_there(pairs):
    kinds = {pair.group.split(":")[0] for pair in pairs}
    assert kinds >= {"date", "time", "date-time", "interval", "day", "month", "quarter", "hours"}
    assert kinds >= {"unit", "money", "duration", "relative", "percent", "compact", "number"}
    assert kinds >= {"territory", "language", "currency", "locale", "list"}


def test_samples(pairs):
    german = {pair.source: pair.target for pair in pairs}
    known = [source for source in SAMPLES if source in german]
    assert {source: german[source] for source in known} == {source: SAMPLES[source] for source in known}
    assert len(known) > 3


SAMPLES = {
    f"{name} {day}": f"{day}. {german}"
    for name, german in (("March", "März"), ("May", "Mai"), ("October", "Oktober"), ("December", "Dezember"))
    for day in range(1, 29)
}


def test_more_pairs_only_add_to_fewer(pairs):
    assert collect(("en", "de"), 500, QUIET) == pairs[:500]


def test_pairs_do_not_depend_on_the_order_of_sets():
    code = (
        "from edgelr.load.cldr import collect; from edgelr.progress import Progress; import hashlib;"
        "print(hashlib.sha256(repr(collect(('en', 'de'), 1000, Progress(quiet=True))).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_no_value_is_in_two_splits(pairs):
    counts = {"train": 5000, "calibration": 50, "validation": 100, "test": 200}
    splits = split_by_group(pairs, counts, seed=0)
    groups = [{pair.group for pair in splits[split]} for split in SPLITS]
    assert sum(map(len, groups)) == len(set.union(*groups))


@pytest.mark.parametrize("language", ["es", "fr", "pt-BR", "ja", "ar", "vo"])
def test_other_languages_need_no_code_of_their_own(language):
    pairs = collect(("en", language), 300, QUIET)
    assert len(pairs) == 300
    assert sum(pair.source == pair.target for pair in pairs) < 0.05 * len(pairs)


def test_the_source_may_be_any_language():
    assert any(pair.source.startswith("vor ") for pair in collect(("de", "en"), 300, QUIET))


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (("en", "dee"), "task.data.languages: 'dee' is not a locale of CLDR; did you mean 'dee|de'"),
        (("en", "german"), "task.data.languages: 'german' is not a locale of CLDR; did you mean 'de'?"),
        (("en", ""), "task.data.languages: '' is not a locale of CLDR"),
        (("en", "q9!"), "task.data.languages: 'q9!' is not a locale of CLDR\n  locales are named"),
        (("de", "de"), "source and target are both 'de'"),
    ],
)
def test_faults(languages, message):
    with pytest.raises(UsageError, match=message):
        collect(languages, 10, QUIET)


def test_babel_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(MissingRequirementError, match=r"(?s)Babel is not installed.*edgelr\[translation\]"):
        collect(("en", "de"), 10, QUIET)
