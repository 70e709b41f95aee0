"""Interactions and their split by time."""

from pathlib import Path

import numpy as np
import pytest
from recommendation_fixtures import ITEMS, MET, USERS, shop_data

from edgelr.errors import DataError, UnsupportedModelError
from edgelr.load.interactions import Met, list_by_use, list_catalog, model_catalog, read_met, split_by_time
from edgelr.progress import Progress

QUIET = Progress(quiet=True)


def met(rows: list[tuple[str, str, float, bool]]) -> Met:
    users, items, times, liked = zip(*rows, strict=True)
    where = [f"clicks.csv:{number}" for number in range(2, len(rows) + 2)]
    return Met(users=users, items=items, times=np.array(times), liked=np.array(liked), where=where, titles={})


def test_the_last_of_each_user_is_the_test(shop: Path, shop_splits) -> None:
    found, catalog = read_met(shop_data(), shop), model_catalog(shop / "two-tower")
    assert {split: len(users) for split, users in shop_splits.items()} == {
        "train": USERS,
        "calibration": 20,
        "validation": USERS,
        "test": USERS,
    }
    for example in shop_splits["test"]:
        mine = [at for at, user in enumerate(found.users) if user == example.id]
        late = sorted(mine, key=lambda at: found.times[at])[-MET // 5 :]
        assert {catalog.items[found.items[at]] for at in late} == {*example.liked, *example.disliked}
        assert len(example.seen) == MET - MET // 5
        assert set(example.seen).isdisjoint({*example.liked, *example.disliked})
    before = {each.id: {*each.liked, *each.disliked} for each in shop_splits["train"]}
    assert all(set(each.seen) == before[each.id] for each in shop_splits["validation"])


def test_the_order_in_the_file_does_not_matter(shop: Path, shop_splits) -> None:
    found = read_met(shop_data(), shop)
    order = np.argsort(found.times, kind="stable")
    names = [[column[at] for at in order] for column in (found.users, found.items, found.where)]
    sorted_ = Met(
        users=names[0],
        items=names[1],
        where=names[2],
        times=found.times[order],
        liked=found.liked[order],
        titles={},
    )
    catalog = model_catalog(shop / "two-tower")
    assert split_by_time(sorted_, catalog, shop_data(), 20, QUIET) == shop_splits


def test_unsorted_times_are_told(shop: Path, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    progress = Progress(quiet=True, log=log)
    split_by_time(read_met(shop_data(), shop), model_catalog(shop / "two-tower"), shop_data(), 1, progress)
    assert f"{USERS * MET} interactions are not in the order of time" in log.read_text()


def test_what_is_met_again_is_not_tested(tmp_path: Path) -> None:
    rows = [("a", str(item % 8), float(item), True) for item in range(10)]
    found = met(rows)
    splits = split_by_time(found, list_catalog(found, tmp_path), shop_data(), 1, QUIET)
    assert splits["test"][0].liked == (), "items 0 and 1 came again"


def test_what_is_met_most_before_the_test_stands_first(shop: Path, tmp_path: Path) -> None:
    found = read_met(shop_data(), shop)
    catalog = list_catalog(found, tmp_path)
    splits = split_by_time(found, catalog, shop_data(), 20, QUIET)
    moved = list_by_use(found, splits, tmp_path)
    again = model_catalog(tmp_path)
    counts = np.zeros(ITEMS, int)
    for each in moved["train"]:
        counts[[*each.liked, *each.disliked]] += 1
    assert (np.diff(counts) <= 0).all()
    assert moved == split_by_time(found, again, shop_data(), 20, QUIET), "as if they had been listed so"
    assert again.titles[again.items["7"]] == "Thing, 7"
    assert list(again.users) == list(catalog.users)


@pytest.mark.parametrize(("name", "place"), [("user", 0), ("item", 1)])
def test_an_id_outside_the_catalog_is_named_with_its_line(shop: Path, name: str, place: int) -> None:
    row: list[object] = ["u1", "1", 1.0, True]
    row[place] = "stranger"
    with pytest.raises(DataError, match=f"clicks.csv:2: the {name} 'stranger' is none of the model's"):
        split_by_time(met([tuple(row)]), model_catalog(shop / "two-tower"), shop_data(), 1, QUIET)  # type: ignore[list-item]


def test_nothing_to_test(tmp_path: Path) -> None:
    found = met([("a", "x", 1.0, True), ("b", "y", 1.0, False)])
    with pytest.raises(DataError, match=r"no user did enough for a test \(2 users, 2 interactions\)"):
        split_by_time(found, list_catalog(found, tmp_path), shop_data(), 1, QUIET)


def test_names_have_rows_in_their_natural_order(tmp_path: Path) -> None:
    found = met([("10", "b", 1.0, True), ("9", "a", 2.0, True)])
    catalog = list_catalog(found, tmp_path)
    assert (list(catalog.users), list(catalog.items)) == (["9", "10"], ["a", "b"])


def test_a_model_without_lists_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"users\.txt cannot be read"):
        model_catalog(tmp_path)


def test_the_shop_has_titles(shop: Path) -> None:
    assert model_catalog(shop / "two-tower").titles[3] == "Thing, 3"
    assert len(model_catalog(shop / "two-tower").items) == ITEMS


def test_what_is_met_twice_in_a_split_counts_as_it_was_met_last(tmp_path: Path) -> None:
    rows = [("a", str(item), float(item), True) for item in range(18)]
    found = met([*rows, ("a", "99", 18.0, True), ("a", "99", 19.0, False)])
    (test,) = split_by_time(found, list_catalog(found, tmp_path), shop_data(), 1, QUIET)["test"]
    assert (18 in test.liked, test.disliked) == (False, (18,))
