"""Letters of CTC models."""

import itertools
import json
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from edgelr.errors import DamagedArtifactError
from edgelr.runtime.ctc import Letters, check_letters, likeliest, prefix_beam_search, read_letters

LETTERS = Letters(letters=("", "a", "b", "|"), blank=0, space="|")


def scores_of(ids, letters=4):
    return np.eye(letters, dtype=np.float32)[list(ids)]


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([1, 1, 0, 1, 2], "aab"),
        ([0, 0, 0], ""),
        ([], ""),
        ([3, 1, 3, 3, 0, 3, 2, 3], "a b"),
        ([1, 2, 1], "aba"),
    ],
)
def test_repeated_letters_are_one_unless_a_blank_is_between(ids, text):
    assert LETTERS.text(likeliest(scores_of(ids).reshape(-1, 4), 0)) == text


def by_hand(probabilities, blank):
    """Every way of reading every position, summed up by what it means."""
    total = defaultdict(float)
    positions, letters = probabilities.shape
    for path in itertools.product(range(letters), repeat=positions):
        meant = tuple(letter for letter, _ in itertools.groupby(path) if letter != blank)
        total[meant] += float(np.prod([row[letter] for row, letter in zip(probabilities, path, strict=True)]))
    return total


@pytest.mark.parametrize("seed", range(20))
def test_a_wide_beam_finds_what_is_likeliest_over_all_ways(seed):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(4) * 0.7, size=6)
    total = by_hand(probabilities, 0)
    found = tuple(prefix_beam_search(np.log(probabilities + 1e-30).astype(np.float32), 0, 1000))
    assert total[found] == pytest.approx(max(total.values()), rel=1e-3)


def test_a_beam_can_beat_the_likeliest_positions():
    # Blank twice is the likeliest path; but "a" is meant in three ways.
    probabilities = np.array([[0.6, 0.4, 0, 0], [0.6, 0.4, 0, 0]]) + 1e-9
    assert likeliest(probabilities.astype(np.float32), 0) == []
    assert prefix_beam_search(np.log(probabilities).astype(np.float32), 0, 4) == [1]


def test_thousands_of_positions_do_not_vanish():
    random = np.random.default_rng(0)
    scores = np.log(random.dirichlet(np.ones(4), size=3000)).astype(np.float32)
    assert len(prefix_beam_search(scores, 0, 2)) > 100


def test_letters_are_read_as_they_were_written(tmp_path):
    document = {"letters": list(LETTERS.letters), "blank": 0, "space": "|"}
    (tmp_path / "letters.json").write_text(json.dumps(document))
    assert read_letters(tmp_path) == LETTERS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"letters": "ab"}, "letters"),
        ({"letters": [1]}, "letters"),
        ({"blank": -1}, "blank"),
        ({"blank": 4}, "the blank 4 is no letter"),
        ({"more": 1}, "more"),
        ({"space": None}, "space"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, change, message):
    document = {"letters": list(LETTERS.letters), "blank": 0, "space": "|", **change}
    (tmp_path / "letters.json").write_text(json.dumps(document))
    with pytest.raises(DamagedArtifactError, match=rf"letters\.json: .*{message}"):
        read_letters(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DamagedArtifactError, match=r"letters\.json"):
        read_letters(tmp_path)


def test_there_is_a_letter_for_every_score(tmp_path):
    session = SimpleNamespace(get_outputs=lambda: [SimpleNamespace(name="logits", shape=["b", "t", 5])])
    with pytest.raises(DamagedArtifactError, match="has 4 letters, and the model scores 5"):
        check_letters(tmp_path, LETTERS, session)
