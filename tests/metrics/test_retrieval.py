import numpy as np
import pytest

from edgelr.metrics import METRICS
from edgelr.metrics.retrieval import (
    cosine_similarity,
    overlap,
    recall,
    reciprocal_rank,
    sentence_embedding_scores,
    top_ranked,
)

DRAW = np.random.default_rng(1)
QUERIES = DRAW.normal(size=(20, 8))
PASSAGES = DRAW.normal(size=(30, 8))

# Four passages on the axes of a plane; the query leans to the first, then to the second.
PLANE = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
LEANING = np.array([[0.9, 0.3]])


def test_cosine_with_itself_is_one_and_with_its_opposite_minus_one() -> None:
    np.testing.assert_allclose(cosine_similarity(QUERIES, 3 * QUERIES), 1.0, atol=1e-12)
    np.testing.assert_allclose(cosine_similarity(QUERIES, -QUERIES), -1.0, atol=1e-12)


def test_a_zero_vector_is_similar_to_nothing() -> None:
    assert cosine_similarity(np.zeros((1, 8)), QUERIES[:1]).tolist() == [0.0]


def test_the_ranking_is_by_cosine() -> None:
    assert top_ranked(LEANING, PLANE).tolist() == [[0, 1, 3, 2]]
    assert top_ranked(LEANING, PLANE * [[1.0], [50.0], [1.0], [1.0]], k=2).tolist() == [[0, 1]]


def test_among_equal_passages_the_first_wins() -> None:
    same = np.repeat(PASSAGES[:1], 9, axis=0)
    assert top_ranked(QUERIES[:3], same).tolist() == [list(range(9))] * 3


@pytest.mark.parametrize(
    ("relevant", "rank", "found"), [(0, 1.0, 1.0), (1, 0.5, 1.0), (3, 1 / 3, 1.0), (2, 0.0, 0.0)]
)
def test_reciprocal_rank_and_recall(relevant: int, rank: float, found: float) -> None:
    assert reciprocal_rank(LEANING, PLANE, [relevant], k=3).tolist() == [rank]
    assert recall(LEANING, PLANE, [relevant], k=3).tolist() == [found]


def test_mrr_is_at_most_recall_and_at_least_a_kth_of_it() -> None:
    relevant = np.arange(20)
    ranks, hits = reciprocal_rank(QUERIES, PASSAGES, relevant), recall(QUERIES, PASSAGES, relevant)
    assert (ranks <= hits).all()
    assert (ranks >= hits / 10).all()


def test_overlap_with_itself_is_one_and_ignores_order() -> None:
    assert overlap(QUERIES, PASSAGES, QUERIES, PASSAGES).tolist() == [1.0] * 20
    assert overlap(LEANING, PLANE, LEANING[:, ::-1], PLANE, k=2).tolist() == [1.0]
    assert overlap(LEANING, PLANE, -LEANING, PLANE, k=2).tolist() == [0.0]


def test_overlap_counts_what_there_is_when_there_are_fewer_than_k() -> None:
    assert overlap(LEANING, PLANE, -LEANING, PLANE, k=10).tolist() == [1.0]


def test_the_dense_model_against_itself_is_perfect_where_that_is_possible() -> None:
    scores = sentence_embedding_scores(QUERIES, PASSAGES, QUERIES, PASSAGES)
    assert tuple(scores) == METRICS["sentence-embedding"]
    assert {name: each.examples for name, each in scores.items()} == {
        "cosine": 50,
        "mrr@10": 20,
        "recall@10": 20,
        "overlap@10": 20,
    }
    assert scores["cosine"].value == pytest.approx(1.0)
    assert scores["overlap@10"].value == 1.0


def test_a_metric_is_the_mean_of_what_its_function_gives() -> None:
    scores = sentence_embedding_scores(QUERIES, PASSAGES, QUERIES, PASSAGES)
    assert scores["mrr@10"].value == reciprocal_rank(QUERIES, PASSAGES, np.arange(20)).mean()
    assert scores["recall@10"].value == recall(QUERIES, PASSAGES, np.arange(20)).mean()


def test_a_rotation_changes_the_cosine_and_no_ranking() -> None:
    rotation = np.linalg.qr(DRAW.normal(size=(8, 8)))[0]
    turned = sentence_embedding_scores(QUERIES @ rotation, PASSAGES @ rotation, QUERIES, PASSAGES)
    assert turned["overlap@10"].value == 1.0
    assert turned["cosine"].value < 0.9


def test_half_precision_is_taken_as_it_is() -> None:
    half = QUERIES.astype(np.float16)
    # fp16 has 11 bits: each of 8 numbers is off by at most 2^-11 of itself.
    np.testing.assert_allclose(cosine_similarity(half, QUERIES.astype(np.float32)), 1.0, atol=1e-6)
