"""Metrics of recommenders, against small cases by hand and plain definitions."""

import math

import numpy as np
import pytest

from edgelr.examples import History
from edgelr.metrics import METRICS
from edgelr.metrics.bootstrap import difference
from edgelr.metrics.recommendation import K, Ranked, ranked, recommendation_scores, top_items


def user(seen: tuple[int, ...] = (), liked: tuple[int, ...] = (), disliked: tuple[int, ...] = ()) -> History:
    return History(id="u", group="u", seen=seen, liked=liked, disliked=disliked)


def metrics(scores: list[list[float]], users: list[History]) -> dict[str, float]:
    found = [ranked(row, each) for row, each in zip(scores, users, strict=True)]
    return {name: each.value for name, each in recommendation_scores(users, found, found).items()}


def test_the_best_items_are_the_largest_that_were_not_seen() -> None:
    assert top_items([1, 5, 5, 9, 2], [3], 3).tolist() == [1, 2, 4]
    assert top_items([1.0, 2.0], [1], 20).tolist() == [0], "there are no more"
    ties = np.random.default_rng(0).integers(0, 9, 500)
    assert top_items(ties, [], 20).tolist() == np.argsort(-ties, kind="stable")[:20].tolist()
    scores = np.random.default_rng(0).normal(size=500)
    assert top_items(scores, [], 20).tolist() == np.argsort(-scores)[:20].tolist()


def test_values_by_hand() -> None:
    scores = [3.0, 1.0, 2.0, 0.0, -1.0]
    found = metrics([scores], [user(seen=(0,), liked=(2, 3), disliked=(1, 4))])
    assert found["auc"] == 3 / 4
    losses = [math.log1p(math.exp(-2.0)), math.log(2), math.log1p(math.e), math.log1p(math.exp(-1))]
    assert found["log_loss"] == pytest.approx(sum(losses) / 4)
    assert found["recall@20"] == 1.0
    first, third = 1.0, 1 / math.log2(4)  # without item 0 the order is 2, 1, 3, 4
    assert found["ndcg@20"] == pytest.approx((first + third) / (1 + 1 / math.log2(3)))
    assert found["overlap@20"] == 1.0
    assert tuple(found) == METRICS["recommendation"]


def test_a_perfect_order_is_1_and_ties_are_half() -> None:
    perfect = metrics([[3.0, 2.0, 1.0]], [user(liked=(0, 1), disliked=(2,))])
    assert (perfect["auc"], perfect["ndcg@20"], perfect["recall@20"]) == (1.0, 1.0, 1.0)
    assert metrics([[0.0, 0.0]], [user(liked=(0,), disliked=(1,))])["auc"] == 0.5


def test_only_the_first_places_count() -> None:
    scores = np.arange(100.0, 0.0, -1).tolist()
    found = metrics([scores], [user(liked=(K - 1, K))])
    assert found["recall@20"] == 0.5


def test_users_without_likes_have_no_place_in_rankings() -> None:
    users = [user(liked=(0,), disliked=(1,)), user(disliked=(0,)), user(liked=(1,))]
    found = metrics([[1.0, 0.0]] * 3, users)
    assert found["auc"] == 1.0, "only the first has both"
    assert found["ndcg@20"] == pytest.approx((1.0 + 1 / math.log2(3)) / 2)


def test_who_met_more_weighs_more_in_auc() -> None:
    users = [user(liked=(0,), disliked=(1,)), user(liked=(1, 2), disliked=(0,))]
    assert metrics([[1.0, 0.0, 0.0]] * 2, users)["auc"] == 2 / 5, "2 interactions in order, 3 that are not"


def test_a_model_does_not_differ_from_itself() -> None:
    users = [user(liked=(0,), disliked=(1,)), user(liked=(1,))]
    found = [ranked([1.0, 0.5], each) for each in users]
    for scores in recommendation_scores(users, found, found).values():
        assert difference(scores, scores) == pytest.approx((0.0, 0.0, 0.0))


def test_overlap_is_with_the_dense_model() -> None:
    empty = np.array([])
    own = Ranked(top=np.array([0, 1, 2, 3]), liked=empty, disliked=empty)
    dense = Ranked(top=np.array([3, 4, 5, 6]), liked=empty, disliked=empty)
    assert recommendation_scores([user(liked=())], [own], [dense])["overlap@20"].value == 0.25
