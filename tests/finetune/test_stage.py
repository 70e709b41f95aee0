import pytest

from edgelr.artifact_files import read_factored, read_json


def test_a_build_tunes_what_was_compressed(built):
    before = read_factored(next((built / ".store" / "compress").glob("*/manifest.json")).parent)
    after = read_factored(next((built / ".store" / "finetune").glob("*/manifest.json")).parent)
    assert after.reductions == before.reductions
    assert after.method == "kronecker, tuned"
    history = read_json(after.folder / "history.json")
    scores = [row["score"] for row in history if "score" in row]
    assert after.metrics["cosine"] == pytest.approx(max(scores))
    assert max(scores) >= scores[0]
