import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from classifiers import LABELS
from graph_copies import change_weights, graphs_of, noisy
from onnx import numpy_helper
from onnxruntime import InferenceSession

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, DataError, ExportError
from edgelr.examples import Labeled, write_examples
from edgelr.kinds import text_classification
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.quantize.calibration import data_of_package
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.validate.accuracy import reference_scores, score_variant

QUIET = Progress(quiet=True)


@pytest.fixture
def package(dense_classifier: Package, tmp_path: Path) -> Package:
    """A copy to change; its files are not held against its manifest here."""
    folder = Path(shutil.copytree(dense_classifier.folder, tmp_path / "package"))
    return replace(dense_classifier, folder=folder)


@pytest.fixture(scope="module")
def sessions(dense_classifier: Package, cpu: Device) -> dict[str, InferenceSession]:
    return {"model": open_session(model_path(dense_classifier), cpu, entries={})}


def test_the_dense_graph_chooses_what_torch_chose(
    package: Package, sessions: dict[str, InferenceSession]
) -> None:
    found = score_variant(package, sessions, package)
    assert tuple(found) == METRICS["text-classification"]
    assert found["agreement"].value == 1
    assert {name: each.value for name, each in found.items()} == reference_scores(package)
    difference = text_classification.parity(package, sessions)
    assert difference is not None and difference < 1e-3


def test_accuracy_is_of_the_examples_labels(package: Package, sessions: dict[str, InferenceSession]) -> None:
    """Labels may be names or numbers."""
    examples = folder_examples(package.folder, Labeled)
    chosen = read_arrays(package.folder / "reference.npz")["dense_logits"].argmax(1)
    for named in (lambda row: LABELS[row], str):
        right = [replace(each, label=named(row)) for each, row in zip(examples, chosen, strict=True)]
        write_examples(package.folder / "examples.jsonl", right)
        found = score_variant(package, sessions, package)
        assert found["accuracy"].value == found["f1"].value == 1


def test_an_unknown_label_is_named(package: Package) -> None:
    first, *rest = folder_examples(package.folder, Labeled)
    write_examples(package.folder / "examples.jsonl", [replace(first, label="plants"), *rest])
    with pytest.raises(DataError, match="the label 'plants' is none of the model's"):
        reference_scores(package)


def test_a_reference_of_other_examples_is_named(package: Package) -> None:
    path = package.folder / "reference.npz"
    stored = read_arrays(path)
    write_arrays(path, {**stored, "dense_logits": stored["dense_logits"][1:]})
    with pytest.raises(DamagedArtifactError, match=r"dense scores \[17, 3\] do not fit 18 examples"):
        reference_scores(package)


def test_scores_that_are_no_numbers_are_an_error(package: Package, cpu: Device) -> None:
    path = model_path(package)
    model = onnx.load(path)
    (node,) = (node for node in model.graph.node if "logits" in node.output)
    node.output[0] = "sound"
    model.graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "nothing"))
    model.graph.node.append(onnx.helper.make_node("Add", ["sound", "nothing"], ["logits"]))
    onnx.save(model, path)
    with pytest.raises(ExportError, match="gives NaN or infinity"):
        score_variant(package, {"model": open_session(path, cpu, entries={})}, package)


def test_quantized_graphs_are_compared(package: Package, tmp_path: Path) -> None:
    folder = graphs_of(package, tmp_path / "q")
    assert text_classification.compare(package, folder, QUIET)["model"] == pytest.approx(1)
    change_weights(folder / "model.onnx", noisy(0.5))
    assert text_classification.compare(package, folder, QUIET)["model"] < 0.999


def test_it_is_fed_with_tokens(package: Package) -> None:
    given = data_of_package(package).feeds["model"]
    assert len(given) == 18
    assert set(given[0]) == {"input_ids", "attention_mask"}
    (ids,) = text_classification.timed_inputs(package, 20)["input_ids"]
    assert len(ids) == 20
