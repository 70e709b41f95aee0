"""Ranking inside a graph is the ranking that numpy makes of its scores, ties and all."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgelr.errors import ExportError
from edgelr.export.top import add_top, rank_inside
from edgelr.metrics.recommendation import top_items

ITEMS = 50


def scoring(*, candidates: bool = False) -> onnx.ModelProto:
    """A graph whose scores are given: ``given`` is one of its inputs."""
    wide = "candidates" if candidates else ITEMS
    inputs = [helper.make_tensor_value_info("given", TensorProto.FLOAT, ["batch", wide])]
    if candidates:
        inputs.append(helper.make_tensor_value_info("item", TensorProto.INT64, ["candidates"]))
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", wide])]
    graph = helper.make_graph([helper.make_node("Identity", ["given"], ["scores"])], "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(proto: onnx.ModelProto, **given: np.ndarray) -> dict[str, np.ndarray]:
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["scores", "top_scores", "top_items"]
    return dict(zip(names, session.run(None, given), strict=True))


def ties(rows: int, wide: int) -> np.ndarray:
    """Whole numbers from -3 to 3: of every score there are several."""
    return np.random.default_rng(0).integers(-3, 4, (rows, wide)).astype(np.float32)


@pytest.mark.parametrize("top", [1, 7, ITEMS, 99])
def test_of_equal_scores_the_first_is_better_and_what_was_seen_is_left_out(top: int) -> None:
    proto, scores = scoring(), ties(3, ITEMS)
    add_top(proto, top)
    seen = np.array([[4, 9, -1, 9], [-1, -1, -1, -1], [0, 49, 48, 47]])
    found = run(proto, given=scores, seen=seen)
    assert np.array_equal(found["scores"], scores), "which the ranking does not touch"
    for row, mine in enumerate(seen):
        expected = top_items(scores[row], mine[mine >= 0].tolist(), top)
        left = np.isfinite(found["top_scores"][row])
        assert found["top_items"][row][left].tolist() == expected.tolist()
        assert found["top_scores"][row][left].tolist() == scores[row][expected].tolist()


def test_candidates_are_ranked_by_their_own_numbers() -> None:
    proto = scoring(candidates=True)
    add_top(proto, 5)
    item, scores = np.array([30, 7, 7000, 2, 11, 12]), ties(2, 6)
    found = run(proto, given=scores, item=item, seen=np.array([[7, 7000], [-1, 12]]))
    for row, hidden in enumerate(([1, 2], [5])):
        left = np.isfinite(found["top_scores"][row])
        assert found["top_items"][row][left].tolist() == item[top_items(scores[row], hidden, 5)].tolist()
    few = run(proto, given=scores[:, :3], item=item[:3], seen=np.array([[-1], [-1]]))
    assert few["top_items"].shape == (2, 3), "as many as there are"


def test_a_written_graph_is_checked_and_its_cases_know_what_to_leave_out(tmp_path: Path) -> None:
    cases = [{"given": ties(2, ITEMS), "user": np.array([0, 1])}]
    told = rank_inside(scoring(), tmp_path / "model.onnx", 20, cases)
    assert told[0]["seen"].tolist() == [[0, 1, -1], [0, 1, -1]]
    assert "seen" not in cases[0]
    assert (tmp_path / "model.onnx").is_file()


def test_a_graph_that_ranks_otherwise_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("edgelr.export.top.top_items", lambda *_: np.array([3]))
    with pytest.raises(ExportError, match="its best 20 items are not those of its scores"):
        rank_inside(
            scoring(), tmp_path / "model.onnx", 20, [{"given": ties(1, ITEMS), "user": np.array([0])}]
        )
