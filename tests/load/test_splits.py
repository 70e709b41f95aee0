import pytest

from edgelr.artifacts import SPLITS
from edgelr.errors import DataError
from edgelr.examples import Example, Translation
from edgelr.load.splits import split_by_group

COUNTS = {"train": 40, "calibration": 10, "validation": 10, "test": 10}


def examples(groups: int = 30, each: int = 4) -> list[Example]:
    return [
        Example(id=f"g{group}.{number}", group=f"g{group}", passage=f"p {group} {number}", query="q")
        for group in range(groups)
        for number in range(each)
    ]


def test_counts_hold_and_no_group_is_shared():
    splits = split_by_group(examples(), COUNTS, seed=0)
    assert {split: len(splits[split]) for split in SPLITS} == COUNTS
    groups = [{example.group for example in splits[split]} for split in SPLITS]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_the_same_seed_gives_the_same_splits_and_another_does_not():
    assert split_by_group(examples(), COUNTS, seed=1) == split_by_group(examples(), COUNTS, seed=1)
    assert split_by_group(examples(), COUNTS, seed=1) != split_by_group(examples(), COUNTS, seed=2)


def test_held_out_groups_are_test_data():
    splits = split_by_group(examples(), COUNTS, seed=0, hold_out=("g1", "g2*"))
    elsewhere = {example.group for split in SPLITS if split != "test" for example in splits[split]}
    assert not {name for name in elsewhere if name == "g1"}


def test_pairs_are_needed_for_the_test():
    plain = [Example(id=str(n), group=str(n), passage="p") for n in range(100)]
    with pytest.raises(DataError, match="10 pairs were asked for the test split, 0 were left"):
        split_by_group(plain, COUNTS, seed=0)


def test_every_translation_can_be_tested_on():
    pairs = [Translation(id=str(n), group=str(n), source="s", target="t") for n in range(100)]
    splits = split_by_group(pairs, COUNTS, seed=0)
    assert {split: len(splits[split]) for split in SPLITS} == COUNTS


def test_too_few_examples_name_the_split():
    with pytest.raises(DataError, match="texts were asked for the train split"):
        split_by_group(examples(groups=15), COUNTS, seed=0)


def test_every_glob_that_holds_out_nothing_is_named():
    four = examples(groups=4, each=1)
    with pytest.raises(DataError, match=r"fits 'math', 'time' \(4 groups"):
        split_by_group(four, dict.fromkeys(SPLITS, 1), seed=0, hold_out=["g1", "math", "time"])


def test_groups_that_only_train_change_no_other_split():
    few = examples(groups=25)
    more = [Example(id=f"more.{n}", group=f"more.{n // 4}", passage="p", query="q") for n in range(40)]
    before = split_by_group(few, COUNTS, seed=0)
    after = split_by_group([*more, *few], {**COUNTS, "train": 104}, seed=0, train_only=["more.*"])
    assert all(after[split] == before[split] for split in SPLITS if split != "train")
    assert set(more) <= set(after["train"])


def test_a_group_cannot_be_test_and_training_data():
    with pytest.raises(DataError, match="both fit 'g1'"):
        split_by_group(examples(), COUNTS, seed=0, hold_out=["g1"], train_only=["g*"])
