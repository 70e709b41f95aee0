"""One user's scores, and the dense model's answers as arrays."""

from pathlib import Path

import numpy as np
import pytest
from recommendation_fixtures import ITEMS

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError
from edgelr.examples import History
from edgelr.metrics.recommendation import Ranked, top_items
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.catalog import read_catalog
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.runtime.recommend import (
    best_items,
    catalog_scores,
    pack_ranked,
    rank_users,
    unpack_ranked,
    user_feeds,
)


def user(liked: tuple[int, ...], disliked: tuple[int, ...]) -> History:
    return History(id="u1", group="u1", seen=(), liked=liked, disliked=disliked)


def test_who_has_seen_nothing_has_one_empty_place() -> None:
    assert user_feeds(3, (), 2)["seen"].tolist() == [[-1]]
    assert user_feeds(3, (5, 6), 2)["seen"].tolist() == [[5, 6]]
    assert user_feeds(3, (5, 6), 2)["item"].tolist() == [0, 1], "all are scored"


def test_scores_are_of_the_whole_catalog(shop_package: Package, cpu: Device) -> None:
    session = open_session(model_path(shop_package), cpu)
    scores = catalog_scores(shop_package, session, 1, (2, 3), ITEMS)
    assert scores.shape == (ITEMS,)
    (found,) = rank_users(shop_package, session, [user((4,), (5, 6))])
    own = catalog_scores(shop_package, session, 1, (), ITEMS)
    assert found.liked.tolist() == [pytest.approx(float(own[4]))]
    assert (len(found.top), len(found.disliked)) == (20, 2)


@pytest.mark.parametrize("row", [ITEMS, -1])
def test_an_item_outside_the_catalog(shop_package: Package, cpu: Device, row: int) -> None:
    session = open_session(model_path(shop_package), cpu)
    with pytest.raises(DamagedArtifactError, match=f"of 'u1' has the item {row}, and {ITEMS} are listed"):
        rank_users(shop_package, session, [user((row,), ())])


def test_a_graph_ranks_as_numpy_does(shop_package: Package, cpu: Device) -> None:
    session = open_session(model_path(shop_package), cpu)
    histories = folder_examples(shop_package.folder, History)[:6]
    for row, each in enumerate(histories):
        scores = catalog_scores(shop_package, session, row, each.seen, ITEMS)
        for top in (3, 20, ITEMS):  # the graph ranks 20: more are ranked here
            found = best_items(shop_package, session, row, each.seen, ITEMS, top)
            expected = top_items(scores, each.seen, top).tolist()
            assert found == [(item, pytest.approx(float(scores[item]))) for item in expected]
    for answer, each in zip(rank_users(shop_package, session, histories), histories, strict=True):
        row = read_catalog(shop_package.folder).users[each.id]
        scores = catalog_scores(shop_package, session, row, each.seen, ITEMS)
        assert answer.top.tolist() == top_items(scores, each.seen, 20).tolist()


def test_answers_are_what_they_were(tmp_path: Path) -> None:
    examples = [user((1, 2), ()), user((), (0,)), user((), ())]
    found = [
        Ranked(top=np.array([3, 4]), liked=np.array([0.5, -1.0]), disliked=np.array([])),
        Ranked(top=np.array([4]), liked=np.array([]), disliked=np.array([2.0])),
        Ranked(top=np.array([], np.int64), liked=np.array([]), disliked=np.array([])),
    ]
    path = tmp_path / "reference.npz"
    write_arrays(path, pack_ranked(found))
    again = unpack_ranked(path, examples)
    for one, other in zip(found, again, strict=True):
        for name in ("top", "liked", "disliked"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    with pytest.raises(DamagedArtifactError, match="dense_disliked does not fit 3 examples"):
        unpack_ranked(path, [examples[0], user((), (0, 1)), examples[2]])
    with pytest.raises(DamagedArtifactError, match="dense_top does not fit 2 examples"):
        unpack_ranked(path, examples[:2])
