"""Devices against the CPU, and the layer where they part."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device, Precision
from edgelr.device.session import open_session
from edgelr.errors import UnsupportedModelError
from edgelr.examples import Translation, write_examples
from edgelr.kinds import translation
from edgelr.kinds.kind import Judge
from edgelr.runtime import open_graphs
from edgelr.runtime.package import model_path
from edgelr.validate import across
from edgelr.validate.across import TOLERANCES, allowed, compare_across, first_divergence

FEEDS = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.array([[1, 1, 1]])}


def test_the_reference_is_not_compared_with_itself(make_package: Callable[..., Package], cpu: Device) -> None:
    assert compare_across(make_package(), cpu, (4,)) is None


def test_what_agrees_is_said_with_its_evidence(make_package: Callable[..., Package]) -> None:
    note = compare_across(make_package(), load_devices()["cpu-4t"], (4, 9, 16, 30))
    assert note is not None
    assert note.startswith("cpu-4t agrees with cpu-1t on 6 inputs of 3 lengths: 1 - cosine at most ")
    assert note.endswith(", of 1e-06 for fp32 (run)")


def test_what_is_allowed_is_of_the_least_exact_arithmetic(
    make_package: Callable[..., Package], cpu: Device
) -> None:
    exact = make_package()
    wide = replace(exact, precision="a16w8")
    half = replace(cpu, floats="fp16")
    assert allowed(exact, cpu) == ("fp32", 1e-6)
    assert allowed(exact, half) == ("fp16", 1e-4)
    assert allowed(wide, half) == allowed(wide, cpu) == ("a16w8", 5e-3)


def test_every_precision_has_a_tolerance() -> None:
    assert set(TOLERANCES) == set(get_args(Precision))


def test_a_package_that_translates_is_compared_graph_by_graph_and_text_by_text(
    translation_package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [("copy a file", "kopiere"), ("parse rows", "lies"), ("print the items of a list", "drucke")]
    rows = [
        Translation(id=str(number), group="g", source=source, target=target)
        for number, (source, target) in enumerate(pairs)
    ]
    write_examples(translation_package.folder / "examples.jsonl", rows)
    other = load_devices()["cpu-4t"]
    note = compare_across(translation_package, other, (4, 9, 16))
    assert note is not None
    assert note.startswith("cpu-4t agrees with cpu-1t on 29 inputs of 3 lengths: 1 - cosine at most ")
    assert note.endswith(", the same text for 3 of 3 (run)")
    answers = iter((["eins", "zwei", "drei"], ["eins", "drei", "drei"]))
    judge = Judge(answer=lambda *_: next(answers), score=lambda *_: {})
    monkeypatch.setattr(translation, "judge", lambda *_: judge)
    with pytest.raises(UnsupportedModelError, match="for 1 of 3 examples, such as 'drei' in place of 'zwei'"):
        compare_across(translation_package, other, (4, 9, 16))


def test_a_package_that_goes_on_with_texts_is_compared_on_its_own(dense_writer: Package) -> None:
    note = compare_across(dense_writer, load_devices()["cpu-4t"], (4, 9, 16))
    assert note is not None
    assert note.startswith("cpu-4t agrees with cpu-1t on 3 inputs of 3 lengths: 1 - cosine at most ")


def other_weights(path: Path, folder: Path) -> Path:
    """The same graph where one matrix is another."""
    proto = onnx.load(path)
    proto.graph.node[8].name = "mixing"
    onnx.save(proto, path)
    (layer,) = (tensor for tensor in proto.graph.initializer if tensor.name == "layer")
    layer.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(layer), 1, axis=1), "layer"))
    onnx.save(proto, folder / "other.onnx")
    return folder / "other.onnx"


def test_the_first_layer_that_differs_is_named(
    make_package: Callable[..., Package], cpu: Device, tmp_path: Path
) -> None:
    path = model_path(make_package())
    other = other_weights(path, tmp_path)

    def on_a_wrong_device(probe: Path) -> object:
        wrong = onnx.load(other)
        wrong.graph.output.extend(onnx.load(probe).graph.output[1:])
        onnx.save(wrong, tmp_path / "probed.onnx")
        return open_session(tmp_path / "probed.onnx", cpu)

    here = lambda file: open_session(file, cpu)  # noqa: E731
    found = first_divergence(path, FEEDS, here, on_a_wrong_device, 1e-6)  # type: ignore[arg-type]
    assert found == "mixing (MatMul)"
    assert first_divergence(path, FEEDS, here, here, 1e-6) == "none of its own"


def test_a_device_that_disagrees_fails(
    make_package: Callable[..., Package], cpu: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package()
    other = other_weights(model_path(package), tmp_path)

    def open_wrongly(path: Path, device: Device, **more: object) -> object:
        return open_session(other if device.name == "npu" and path == model_path(package) else path, cpu)

    for module in (across, open_graphs):  # files that probe a graph, and the package's own
        monkeypatch.setattr(module, "open_session", open_wrongly)
    npu = replace(cpu, name="npu")
    with pytest.raises(UnsupportedModelError) as caught:
        compare_across(package, npu, (4, 8))
    assert "device 'npu' disagrees with the CPU on 1 x 4 tokens: 1 - cosine " in str(caught.value)
    assert "at most 1e-06 for fp32; the first layer that differs is " in str(caught.value)


def test_what_is_not_a_number_disagrees() -> None:
    nan, one = {"y": np.array([[np.nan, 1.0]])}, {"y": np.array([[1.0, 1.0]])}
    assert not across.differ(nan, one) <= 1.0
    assert across.differ(one, one) == pytest.approx(0, abs=1e-12)


def test_a_wrong_length_and_nothing_at_all_disagree() -> None:
    right = {"y": np.ones((2, 3))}
    assert across.differ({"y": np.ones((2, 3))}, right) == 0.0
    assert across.differ({"y": 7 * np.ones((2, 3))}, right) == 18.0
    assert across.differ({"y": np.zeros((2, 3))}, right) == 0.5
    assert across.differ(right, {"y": np.zeros((2, 3))}) == np.inf
    turned = {"y": np.array([[0.6, 0.8]])}
    assert across.differ(turned, {"y": np.array([[1.0, 0.0]])}) == pytest.approx(1 - 0.6)
