import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_copies import change_weights, graphs_of, noisy

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError
from edgelr.kinds import token_classification
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.quantize.calibration import data_of_package
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.package import model_path, open_package
from edgelr.validate.accuracy import reference_scores, score_variant

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def dense(built_tagger: Path) -> Package:
    stored = built_tagger.parent / ".store" / "export"
    packages = [open_package(path.parent) for path in sorted(stored.glob("*/package.json"))]
    (found,) = (package for package in packages if package.name.endswith("-dense"))
    return found


def test_the_dense_graph_says_what_torch_said(dense: Package, cpu: Device) -> None:
    sessions = {"model": open_session(model_path(dense), cpu)}
    found = score_variant(dense, sessions, dense)
    assert tuple(found) == METRICS["token-classification"]
    assert found["agreement"].value == 1
    assert {name: each.value for name, each in found.items()} == reference_scores(dense)
    difference = token_classification.parity(dense, sessions)
    assert difference is not None and difference < 1e-3


def test_a_reference_of_other_words_is_named(dense: Package, tmp_path: Path) -> None:
    package = replace(dense, folder=Path(shutil.copytree(dense.folder, tmp_path / "package")))
    lines = np.frombuffer("\n".join(["O"] * 18).encode(), np.uint8)
    write_arrays(package.folder / "reference.npz", {"dense_outputs": lines})
    with pytest.raises(DamagedArtifactError, match="do not fit the words"):
        reference_scores(package)


def test_quantized_graphs_are_compared(dense: Package, tmp_path: Path) -> None:
    folder = graphs_of(dense, tmp_path / "q")
    assert token_classification.compare(dense, folder, QUIET)["model"] == pytest.approx(1)
    change_weights(folder / "model.onnx", noisy(0.5))
    assert token_classification.compare(dense, folder, QUIET)["model"] < 0.999


def test_it_is_fed_with_tokens(dense: Package) -> None:
    assert set(data_of_package(dense).feeds["model"][0]) == {"input_ids", "attention_mask"}
    (ids,) = token_classification.timed_inputs(dense, 20)["input_ids"]
    assert len(ids) == 20
