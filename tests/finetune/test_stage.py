import onnx
import pytest

from edgelr.artifact_files import read_factored, read_json
from edgelr.pipeline import build


def test_a_build_tunes_what_was_compressed(built):
    before = read_factored(next((built / ".store" / "compress").glob("*/manifest.json")).parent)
    after = read_factored(next((built / ".store" / "finetune").glob("*/manifest.json")).parent)
    assert after.reductions == before.reductions
    assert after.method == "kronecker, tuned"
    history = read_json(after.folder / "history.json")
    scores = [row["score"] for row in history if "score" in row]
    assert after.metrics["cosine"] == pytest.approx(max(scores))
    assert max(scores) >= scores[0]


@pytest.mark.slow
def test_quantization_is_simulated_where_that_is_asked_for(rebuilt):
    recipe = rebuilt / "tiny.yaml"
    text = recipe.read_text().replace("validate_every: 3", "validate_every: 3, quantization_aware: true")
    recipe.write_text(text.replace("int8-dynamic", "weight-int4"))
    rows = {row["stage"]: row for row in build(recipe, rebuilt / "tiny", until="quantize").document["stages"]}
    assert not rows["finetune"]["reused"]
    found = rebuilt / ".store" / "finetune" / rows["finetune"]["key"]
    scores = [(row["step"], row["score"]) for row in read_json(found / "history.json") if "score" in row]
    # Of six steps the last two are rounded: what is best so far is measured once more, as the graph will be.
    assert [step for step, _ in scores] == [0, 3, 4, 4, 6]
    exact, rounded = (score for step, score in scores if step == 4)
    assert rounded < exact, "4 bits lose something"
    # Another scheme is another tuning; another loss that is accepted is not.
    recipe.write_text(
        recipe.read_text().replace("weight-int4, min_cosine: 0.5", "weight-int4, min_cosine: 0.4")
    )
    again = build(recipe, rebuilt / "tiny", until="finetune").document["stages"][-1]
    assert again["reused"]


@pytest.mark.slow
def test_a_model_tuned_with_relu_is_written_with_relu(rebuilt):
    recipe = rebuilt / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("validate_every: 3", "validate_every: 3, activations: relu"))
    rows = {row["stage"]: row for row in build(recipe, rebuilt / "tiny", until="quantize").document["stages"]}
    tuned = read_factored(rebuilt / ".store" / "finetune" / rows["finetune"]["key"])
    assert [name.rpartition(".")[2] for name in tuned.rectified] == ["intermediate_act_fn"] * 2
    graphs = list((rebuilt / ".store" / "export").glob("*/model.onnx"))
    kinds = [{node.op_type for node in onnx.load(path).graph.node} & {"Relu", "Gelu"} for path in graphs]
    assert {"Relu"} in kinds, "the candidate"
    assert {"Gelu"} in kinds, "and the dense model as it was"
