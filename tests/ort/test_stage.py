"""A package with its graphs in ONNX Runtime's own format too."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import ExportError
from edgelr.ort.stage import CONFIG, write_ort
from edgelr.progress import Progress
from edgelr.quantize.calibration import data_of_package
from edgelr.quantize.stage import quantize
from edgelr.recipe.schema import Quantize
from edgelr.runtime.package import ORT, model_path, open_package

QUIET = Progress(quiet=True)


def test_the_same_package_and_the_other_format(
    make_package: Callable[..., Package], cpu: Device, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    package = make_package()
    handlers = list(logging.getLogger().handlers)
    made = write_ort(package, tmp_path / "made", QUIET)
    assert open_package(made.folder) == made
    assert made.cost == package.cost, "an app ships either format"
    own = [f"{ORT}{CONFIG}", f"{ORT}model.ort"]
    assert sorted(set(made.files) - set(package.files)) == sorted(own)
    assert {file: made.files[file] for file in package.files} == package.files
    feeds = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.array([[1, 1, 0]])}
    right = open_session(model_path(package), cpu).run(None, feeds)
    found = open_session(made.folder / ORT / "model.ort", cpu).run(None, feeds)
    np.testing.assert_array_equal(found, right)
    assert capfd.readouterr() == ("", ""), "the tool prints"
    assert logging.getLogger().handlers == handlers


def test_16_bits_stay_16_bits(make_package: Callable[..., Package], cpu: Device, tmp_path: Path) -> None:
    fp32 = make_package()
    settings = Quantize(scheme="a16w8", min_cosine=0.5)  # type: ignore[call-arg]
    (tmp_path / "wide").mkdir()
    wide = quantize(fp32, settings, tmp_path / "wide", QUIET, data=data_of_package(fp32))
    made = write_ort(wide, tmp_path / "made", QUIET)
    assert "MatMulNBits" not in (made.folder / ORT / CONFIG).read_text()
    feeds = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.array([[1, 1, 0]])}
    found, right = (
        open_session(path, cpu).run(None, feeds)[0]
        for path in (made.folder / ORT / "model.ort", model_path(made))
    )
    # Sums of fp32 in another order, and now and then another step of 16 bits.
    np.testing.assert_allclose(found, right, atol=1e-4)


def test_the_config_names_operators_and_no_place_of_this_host(
    make_package: Callable[..., Package], tmp_path: Path
) -> None:
    made = write_ort(make_package(), tmp_path / "made", QUIET)
    text = (made.folder / ORT / CONFIG).read_text()
    assert text.startswith("# Generated from model/s:\n# - model.ort\n")
    assert "MatMul" in text
    assert str(tmp_path) not in text


def test_what_cannot_be_written_says_how_to_go_on(
    make_package: Callable[..., Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no such operator")

    monkeypatch.setattr("onnxruntime.tools.convert_onnx_models_to_ort.convert_onnx_models_to_ort", refuse)
    with pytest.raises(ExportError, match=r"own format: no such operator") as caught:
        write_ort(make_package(), tmp_path / "made", QUIET)
    assert caught.value.hint == "take export.ort_format out of the recipe"
