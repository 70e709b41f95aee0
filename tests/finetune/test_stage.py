import pytest

from edgelr.artifact_files import read_factored, read_json
from edgelr.finetune.stage import uses_bf16


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("bf16", True)])
def test_the_recipe_decides_the_precision(precision, expected):
    assert uses_bf16(precision) is expected


def test_auto_asks_the_hardware():
    assert uses_bf16("auto") in {True, False}


def test_a_build_tunes_what_was_compressed(built):
    before = read_factored(next((built / ".store" / "compress").glob("*/manifest.json")).parent)
    after = read_factored(next((built / ".store" / "finetune").glob("*/manifest.json")).parent)
    assert after.reductions == before.reductions
    assert after.method == "kronecker, tuned"
    history = read_json(after.folder / "history.json")
    scores = [row["score"] for row in history if "score" in row]
    assert after.metrics["cosine"] == pytest.approx(max(scores))
    assert max(scores) >= scores[0]


def test_sums_are_in_one_order_while_it_tunes_and_as_before_afterwards():
    import torch

    from edgelr.finetune.stage import same_sums

    with same_sums():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
