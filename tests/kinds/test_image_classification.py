import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.cli import cli
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError
from edgelr.metrics import METRICS
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.package import model_path, open_package
from edgelr.terminal import run_command
from edgelr.validate.accuracy import reference_scores, score_variant


@pytest.fixture(scope="module")
def dense(built_image_classifier: Path) -> Package:
    stored = built_image_classifier.parent / ".store" / "export"
    packages = [open_package(path.parent) for path in sorted(stored.glob("*/package.json"))]
    (found,) = (package for package in packages if package.name.endswith("-dense"))
    return found


def test_the_dense_graph_chooses_what_torch_chose(dense: Package, cpu: Device) -> None:
    found = score_variant(dense, {"model": open_session(model_path(dense), cpu)}, dense)
    assert tuple(found) == METRICS["image-classification"]
    assert found["agreement"].value == 1
    assert {name: each.value for name, each in found.items()} == reference_scores(dense)


def test_accuracy_is_of_the_labels_of_the_arrays(dense: Package, tmp_path: Path) -> None:
    package = replace(dense, folder=Path(shutil.copytree(dense.folder, tmp_path / "package")))
    outputs = read_arrays(package.folder / "arrays" / "outputs.npz")
    path = package.folder / "arrays" / "test.npz"
    chosen = {f"{name.partition('/')[0]}/labels": array.argmax(1) for name, array in outputs.items()}
    write_arrays(path, {**read_arrays(path), **chosen})
    assert reference_scores(package)["accuracy"] == 1
    other = {f"{row}/other": np.zeros(3) for row in range(12)}
    write_arrays(package.folder / "arrays" / "outputs.npz", other)
    with pytest.raises(DamagedArtifactError, match="an example has no logits"):
        reference_scores(package)


def test_the_package_is_used(built_image_classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = built_image_classifier / "package"
    assert {"labels.json", "preprocessor_config.json"} <= set(open_package(package).files)
    images = read_arrays(built_image_classifier.parent / "images.npz")["pixel_values"][:4]
    path = built_image_classifier.parent / "four.npz"
    np.savez(path, pixel_values=images)
    assert run_command(cli, ["run", str(package), str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["classifications"]
    assert [row["input"] for row in rows] == [f"{path}[{row}]" for row in range(4)]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)
    assert run_command(cli, ["run", str(package)]) == 2
    np.savez(path, pixel_values=images[:, :, :4])
    assert run_command(cli, ["run", str(package), str(path)]) == 5


def test_it_is_timed_with_rows(built_image_classifier: Path) -> None:
    report = json.loads((built_image_classifier / "report.json").read_text())
    assert {row["shape"] for row in report["latency"]} == {"1 rows", "4 rows"}
    assert report["model"]["candidate"]["parameters"] < report["model"]["dense"]["parameters"]
