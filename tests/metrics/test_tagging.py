import pytest

from edgelr.metrics import METRICS
from edgelr.metrics.tagging import spans, tagging_scores


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-A I-A O B-A", {(0, 2, "A"), (3, 4, "A")}),
        ("B-A B-A", {(0, 1, "A"), (1, 2, "A")}),
        ("I-A I-A I-B", {(0, 2, "A"), (2, 3, "B")}),
        ("B-A I-B", {(0, 1, "A"), (1, 2, "B")}),
        ("NOUN NOUN O VERB", {(0, 1, "NOUN"), (1, 2, "NOUN"), (3, 4, "VERB")}),
        ("B-A-B I-A-B", {(0, 2, "A-B")}),
        ("B-A NOUN I-A", {(0, 1, "A"), (1, 2, "NOUN"), (2, 3, "A")}),
        ("", set()),
    ],
)
def test_parts_are_named(tags: str, expected: set[tuple[int, int, str]]) -> None:
    assert spans(tags.split()) == expected


def test_figures_by_hand() -> None:
    right = [["B-A", "I-A", "O"], ["B-B"]]
    own = [["B-A", "O", "O"], ["B-B"]]
    dense = [["B-A", "O", "O"], ["O"]]
    found = tagging_scores(own, right, dense)
    assert tuple(found) == METRICS["token-classification"]
    values = {name: scores.value for name, scores in found.items()}
    assert values == pytest.approx({"accuracy": 3 / 4, "f1": 2 * 1 / (2 + 2), "agreement": 3 / 4})


def test_texts_without_a_part_have_no_f1_and_no_fault() -> None:
    assert tagging_scores([["O"]], [["O"]], [["O"]])["f1"].value == 0
