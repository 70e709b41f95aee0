"""What a build compiles for the chips that it validates on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelr.artifacts import CANDIDATE, Package
from edgelr.device.load import load_devices
from edgelr.device.prepared import missing
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.runners.ahead import compile_ahead
from edgelr.runtime.package import model_path
from edgelr.runtime.shapes import SHAPES

CHIP = load_devices()["qnn-sm8550"]


def test_other_devices_have_nothing_to_compile(
    make_package: Callable[..., Package], cpu: Device, tmp_path: Path
) -> None:
    assert compile_ahead({"candidate": make_package()}, [cpu, load_devices()["ios-coreml"]], tmp_path) == []
    assert list(tmp_path.glob("qnn")) == []


@pytest.mark.skipif(missing(CHIP) is not None, reason="pip install onnxruntime-qnn")
def test_every_size_is_compiled_and_computes_the_same(
    make_package: Callable[..., Package], tmp_path: Path
) -> None:
    package = make_package(precision="a16w8")
    package = replace(package, settings={**package.settings, SHAPES: "8"})
    packages = {"dense-fp32": make_package("dense"), "candidate": make_package("other"), "npu": package}
    written = compile_ahead(packages, [CHIP], tmp_path / "out")
    longest = package.settings["max_tokens"]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == [
        "qnn/npu/sm8550/model-1x8.onnx",
        f"qnn/npu/sm8550/model-1x{longest}.onnx",
    ]
    feeds = {"input_ids": np.arange(4, 12)[None], "attention_mask": np.ones((1, 8), np.int64)}
    right = open_session(model_path(package), CHIP, sizes=({"batch": 1, "tokens": 8},)).run(None, feeds)
    np.testing.assert_array_equal(open_session(written[0], CHIP).run(None, feeds), right)


@pytest.mark.skipif(missing(CHIP) is not None, reason="pip install onnxruntime-qnn")
def test_what_runs_beside_the_npu_is_not_compiled(
    make_package: Callable[..., Package], tmp_path: Path
) -> None:
    package = make_package()
    beside = replace(package, graphs={"features": package.graphs["model"]})
    assert compile_ahead({CANDIDATE: beside}, [CHIP], tmp_path / "out") == []
