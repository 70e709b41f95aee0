import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from array_packages import EXAMPLES, IN, calls, write_array_package, write_layer

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import (
    DamagedArtifactError,
    DataError,
    ExportError,
    QuantizeError,
    UnsupportedModelError,
    UsageError,
)
from edgelr.examples import Call, read_examples, write_examples
from edgelr.kinds import arrays
from edgelr.progress import Progress
from edgelr.quantize.calibration import data_of_package
from edgelr.recipe.schema import Validation
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.package import model_path, open_package
from edgelr.timing.feeds import feeds as timing_feeds
from edgelr.validate.accuracy import reference_scores, score_variant
from edgelr.validate.stage import validate

QUIET = Progress(quiet=True)
METRIC = """
import numpy as np

def accuracy(outputs, batch):
    return float(np.mean(outputs["winner"] == batch["target"]))
"""


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return write_array_package(tmp_path / "package")


def scores_of(package: Package, cpu: Device, reference: Package | None = None) -> dict[str, float]:
    sessions = {"model": open_session(model_path(package), cpu)}
    found = score_variant(package, sessions, reference or package)
    assert all(each.examples == EXAMPLES for each in found.values())
    return {name: each.value for name, each in found.items()}


def test_the_same_graph_gives_what_is_stored(package: Package, cpu: Device) -> None:
    found = scores_of(package, cpu)
    assert found == pytest.approx(
        {"cosine": 1, "difference": 0, "cosine of y": 1, "cosine of winner": 1}, abs=1e-6
    )
    assert reference_scores(package) == pytest.approx(found, abs=1e-6)
    assert arrays.parity(package, {"model": open_session(model_path(package), cpu)}) == 0


def test_another_graph_is_further_away(tmp_path: Path, cpu: Device) -> None:
    other = write_array_package(tmp_path / "other", noise=1.0)
    found = scores_of(other, cpu)
    assert 0 < found["cosine"] < 0.95
    assert found["difference"] > 0.5
    assert arrays.parity(other, {"model": open_session(model_path(other), cpu)}) > 0.1


def test_your_own_function_judges_too(tmp_path: Path, cpu: Device) -> None:
    (tmp_path / "judge.py").write_text(METRIC)

    def accuracy(outputs: dict[str, np.ndarray], batch: dict[str, np.ndarray]) -> float:
        return float(np.mean(outputs["winner"] == batch["target"]))

    package = write_array_package(tmp_path / "package", accuracy)
    asked = replace(package, metric=f"{tmp_path / 'judge.py'}:accuracy")
    dense = reference_scores(asked)["metric"]
    assert scores_of(asked, cpu)["metric"] == dense
    assert "metric" not in scores_of(package, cpu), "a package brings no code"
    assert open_package(package.folder).metric is None
    worse = replace(asked, folder=write_array_package(tmp_path / "worse", accuracy, noise=3.0).folder)
    assert scores_of(worse, cpu)["metric"] != dense


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def accuracy(outputs, batch):\n    return outputs['z']\n", "judge.py:2: KeyError: 'z'"),
        ("def accuracy(outputs, batch):\n    return None\n", "TypeError"),
        ("def accuracy(outputs, batch):\n    return float('nan')\n", "not finite"),
    ],
)
def test_a_function_that_fails_is_named(
    package: Package, cpu: Device, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "judge.py").write_text(text)
    with pytest.raises(UnsupportedModelError, match=message):
        scores_of(replace(package, metric=f"{tmp_path / 'judge.py'}:accuracy"), cpu)


@pytest.mark.parametrize(("precision", "error"), [("fp32", ExportError), ("weight-int8", QuantizeError)])
def test_what_is_no_number_is_an_error(
    package: Package, cpu: Device, precision: str, error: type[Exception]
) -> None:
    write_layer(model_path(package), bad=True)
    with pytest.raises(error, match="NaN or infinity"):
        scores_of(replace(package, precision=precision), cpu)


def test_outputs_of_another_shape_are_named(package: Package, cpu: Device) -> None:
    path = package.folder / "arrays" / "outputs.npz"
    stored = read_arrays(path)
    write_arrays(path, {**stored, "1/y": stored["1/y"][:1]})
    with pytest.raises(DamagedArtifactError, match="output 'y' of example 1 is of shape"):
        scores_of(package, cpu)


def test_arrays_are_not_counted_and_may_be_taken_out(package: Package, cpu: Device) -> None:
    size = sum((package.folder / file).stat().st_size for file in package.files if "arrays/" not in file)
    assert package.cost.bytes == size
    shutil.rmtree(package.folder / "arrays")
    left = open_package(package.folder)
    with pytest.raises(DataError, match="were taken out"):
        scores_of(left, cpu)


def test_it_is_fed_with_its_examples(package: Package) -> None:
    data = data_of_package(package)
    assert [set(each) for each in data.feeds["model"]] == [{"x"}] * EXAMPLES
    np.testing.assert_array_equal(data.feeds["model"][3]["x"], calls()[3]["x"])


def test_quantized_graphs_are_compared(package: Package, tmp_path: Path) -> None:
    (tmp_path / "q").mkdir()
    write_layer(tmp_path / "q" / "model.onnx")
    assert arrays.compare(package, tmp_path / "q", QUIET)["model"] == pytest.approx(1.0)
    write_layer(tmp_path / "q" / "model.onnx", noise=1.0)
    assert arrays.compare(package, tmp_path / "q", QUIET)["model"] < 0.95
    write_layer(tmp_path / "q" / "model.onnx", bad=True)
    with pytest.raises(QuantizeError, match="not finite"):
        arrays.compare(package, tmp_path / "q", QUIET)


def test_a_call_is_timed_with_as_many_rows_as_asked_for(package: Package) -> None:
    middle = calls()[EXAMPLES // 2]["x"]
    (x,) = timing_feeds(arrays.timed_inputs(package, 5)).values()
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.concatenate([middle, middle, middle[:1]]))


def test_without_a_batch_axis_a_call_is_one_row(tmp_path: Path) -> None:
    package = write_array_package(tmp_path / "package", batch=3)
    (x,) = timing_feeds(arrays.timed_inputs(package, 1)).values()
    assert x.shape == (3, IN)
    with pytest.raises(UsageError, match="no batch axis, 2 rows cannot be timed"):
        arrays.timed_inputs(package, 2)


def test_an_example_outside_the_package_is_not_opened(package: Package) -> None:
    path = package.folder / "examples.jsonl"
    first, *rest = read_examples(path, Call)
    write_examples(path, [replace(first, file="arrays/../../x.npz"), *rest])
    with pytest.raises(DamagedArtifactError, match="is not in arrays/"):
        arrays.judge(read_examples(path, Call), package.folder)


def test_it_is_validated_as_any_package(package: Package, tmp_path: Path, cpu: Device) -> None:
    gates = [{"metric": "cosine", "min": 0.99}, {"metric": "difference", "max_rise": 0.01}]
    settings = Validation.model_validate_json(json.dumps({"rows": [1, 4], "seconds": 0.2, "gates": gates}))
    (tmp_path / "verdict").mkdir()
    verdict = validate({"candidate": package}, [cpu], settings, tmp_path / "verdict", QUIET)
    assert verdict.passed
    assert [row.shape for row in verdict.latency] == ["1 rows", "4 rows"]
