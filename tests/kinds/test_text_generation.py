"""Packages that go on with texts: judged, compared, calibrated."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_copies import change_weights, noisy
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, EdgelrError, ExportError, QuantizeError
from edgelr.examples import Passage
from edgelr.kinds.text_generation import compare, feeds, judge, timed_inputs
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.quantize.calibration import check_feeds
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.validate.accuracy import reference_scores, runs_to_score, score_variant


@pytest.fixture
def package(dense_writer: Package, tmp_path: Path) -> Package:
    """A copy to change; its files are not held against its manifest here."""
    folder = Path(shutil.copytree(dense_writer.folder, tmp_path / "package"))
    return replace(dense_writer, folder=folder)


def opened(package: Package, cpu: Device) -> dict[str, InferenceSession]:
    return {"decoder": open_session(model_path(package, "decoder"), cpu, entries={})}


def test_the_dense_graph_says_what_torch_said(package: Package, cpu: Device) -> None:
    calls: list[int] = []
    scores = score_variant(package, opened(package, cpu), package, lambda: calls.append(1))
    assert tuple(scores) == METRICS["text-generation"]
    assert scores["agreement"].value == scores["agreed_tokens"].value == 1.0
    assert scores["perplexity"].value == pytest.approx(reference_scores(package)["perplexity"], rel=1e-5)
    assert len(calls) == runs_to_score(package) == 2 * 24


def test_a_damaged_graph_is_worse(package: Package, cpu: Device) -> None:
    change_weights(package.folder / "decoder.onnx", noisy(0.3))
    scores = score_variant(package, opened(package, cpu), package)
    assert scores["agreed_tokens"].value < 1.0


@pytest.mark.parametrize(("precision", "error"), [("fp32", ExportError), ("weight-int4", QuantizeError)])
def test_scores_that_are_no_numbers_are_an_error(
    package: Package, cpu: Device, precision: str, error: type[EdgelrError]
) -> None:
    path = model_path(package, "decoder")
    model = onnx.load(path)
    (head,) = (node for node in model.graph.node if "logits" in node.output)
    head.output[list(head.output).index("logits")] = "sound"
    model.graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "nothing"))
    model.graph.node.append(helper.make_node("Add", ["sound", "nothing"], ["logits"]))
    onnx.save(model, path)
    broken = replace(package, precision=precision)
    with pytest.raises(error, match="gives NaN or infinity"):
        score_variant(broken, opened(broken, cpu), broken)


def test_dense_answers_that_do_not_fit_are_said(package: Package) -> None:
    path = package.folder / "reference.npz"
    stored = read_arrays(path)
    write_arrays(path, {**stored, "dense_losses": stored["dense_losses"][:3]})
    with pytest.raises(DamagedArtifactError, match="do not fit 24 examples"):
        reference_scores(package)


def test_a_graph_is_like_itself_and_less_like_a_damaged_one(package: Package, dense_writer: Package) -> None:
    progress = Progress(quiet=True)
    assert compare(dense_writer, package.folder, progress)["decoder"] == pytest.approx(1, abs=1e-6)
    change_weights(package.folder / "decoder.onnx", noisy(0.3))
    assert 0 < compare(dense_writer, package.folder, progress)["decoder"] < 0.999


def test_feeds_are_whole_texts(dense_writer: Package) -> None:
    examples = folder_examples(dense_writer.folder, Passage)
    (given,) = feeds(dense_writer, examples, dense_writer.folder).values()
    assert len(given) == 24
    assert max(call["input_ids"].shape[1] for call in given) == 64
    check_feeds(given, dense_writer.graphs["decoder"], "here")


def test_a_judge_takes_any_texts(dense_writer: Package, cpu: Device) -> None:
    texts = [Passage(id="a", group="a", text="the License"), Passage(id="b", group="b", text="")]
    found = judge(texts, dense_writer.folder).answer(dense_writer, opened(dense_writer, cpu), None)
    assert found.tokens.tolist()[1] == 0
    assert found.continuations.shape == (2, 16)


def test_what_is_timed_has_the_length_that_is_asked_for(dense_writer: Package) -> None:
    for length in (1, 7, 300):
        inputs = timed_inputs(dense_writer, length)
        assert np.shape(inputs["input_ids"]) == (1, length)
        assert inputs["new_tokens"] == length
