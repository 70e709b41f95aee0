"""What writes token by token: how far its quantized graphs are from fp32."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_copies import change_weights, graphs_of, noisy
from onnx import numpy_helper

from edgelr.artifacts import Package
from edgelr.device.load import find_device
from edgelr.device.session import open_session
from edgelr.errors import QuantizeError
from edgelr.examples import Translation
from edgelr.kinds import steps, translation
from edgelr.progress import Progress
from edgelr.quantize.calibration import check_feeds, data_of_package
from edgelr.quantize.stage import quantize
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path, open_package

QUIET = Progress(quiet=True)


# --- translations -----------------------------------------------------------------------------------


def test_the_same_graphs_are_the_same(dense_translator: Package, tmp_path: Path) -> None:
    found = translation.compare(dense_translator, graphs_of(dense_translator, tmp_path / "q"), QUIET)
    assert found == pytest.approx({"encoder": 1.0, "decoder": 1.0}, abs=1e-6)


def test_each_graph_has_its_own_cosine(dense_translator: Package, tmp_path: Path) -> None:
    """What an encoder gives is what its decoder reads, so that a decoder answers for both."""
    folder = graphs_of(dense_translator, tmp_path / "q")
    change_weights(folder / "decoder.onnx", noisy(0.3))
    decoder = translation.compare(dense_translator, folder, QUIET)
    assert decoder["encoder"] == pytest.approx(1.0, abs=1e-6)
    assert 0.5 < decoder["decoder"] < 0.99
    shutil.copyfile(dense_translator.folder / "decoder.onnx", folder / "decoder.onnx")
    change_weights(folder / "encoder.onnx", noisy(0.3))
    encoder = translation.compare(dense_translator, folder, QUIET)
    assert encoder["encoder"] < 0.999
    assert encoder["decoder"] < 0.9999


def test_more_noise_is_further_away(dense_translator: Package, tmp_path: Path) -> None:
    cosines = []
    for share in (0.05, 0.2, 0.8):
        folder = graphs_of(dense_translator, tmp_path / f"q{share}")
        change_weights(folder / "decoder.onnx", noisy(share))
        cosines.append(translation.compare(dense_translator, folder, QUIET)["decoder"])
    assert cosines == sorted(cosines, reverse=True)


def test_what_changes_no_probability_changes_no_cosine(dense_translator: Package, tmp_path: Path) -> None:
    """A number that is added to all scores."""
    folder = graphs_of(dense_translator, tmp_path / "q")
    proto = onnx.load(folder / "decoder.onnx")
    (last,) = [node for node in proto.graph.node if "logits" in node.output]
    last.output[0] = "inner"
    proto.graph.initializer.append(numpy_helper.from_array(np.array(50.0, np.float32), "fifty"))
    proto.graph.node.append(onnx.helper.make_node("Add", ["inner", "fifty"], ["logits"]))
    onnx.save(proto, folder / "decoder.onnx")
    found = translation.compare(dense_translator, folder, QUIET)
    assert found["decoder"] == pytest.approx(1.0, abs=1e-6)


def test_the_texts_are_those_that_a_package_translates(
    dense_translator: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its prefix, and no longer than it takes."""
    read: list[list[int]] = []
    chosen = steps._Pair.chosen

    def noted(self: Any, source: dict[str, np.ndarray], generation: Any) -> list[int]:
        read.append(source["input_ids"][0].tolist())
        return chosen(self, source, generation)

    monkeypatch.setattr(steps._Pair, "chosen", noted)
    folder = graphs_of(dense_translator, tmp_path / "q")
    translation.compare(dense_translator, folder, QUIET)
    plain, read[:] = list(read), []
    assert len(plain) == 24
    settings = {**dense_translator.settings, "prefix": "one two ", "max_tokens": 6}
    translation.compare(replace(dense_translator, settings=settings), folder, QUIET)
    prefix = read[0][:2]
    assert {tuple(ids[:2]) for ids in read} == {tuple(prefix)}
    assert max(map(len, read)) == 6
    assert [ids[2:5] for ids in read if len(ids) == 6] == [ids[:3] for ids in plain if len(ids) >= 4]


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_values_that_are_not_finite_name_their_graph(
    dense_translator: Package, tmp_path: Path, role: str
) -> None:
    folder = graphs_of(dense_translator, tmp_path / "q")
    change_weights(folder / f"{role}.onnx", lambda array: array * np.nan)
    with pytest.raises(QuantizeError, match=rf"{role}\.onnx: the quantized graph gives values that are not"):
        translation.compare(dense_translator, folder, QUIET)


@pytest.mark.parametrize(
    ("scheme", "least"), [("weight-int8", 0.99), ("weight-int4", 0.8), ("int8-dynamic", 0.9)]
)
def test_a_translation_package_is_quantized_and_opens(
    dense_translator: Package, tmp_path: Path, scheme: Any, least: float
) -> None:
    notes: list[str] = []

    class Noting(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    (tmp_path / "q").mkdir()
    settings = Quantize(scheme=scheme, min_cosine=least)  # type: ignore[call-arg]
    made = quantize(dense_translator, settings, tmp_path / "q", Noting(quiet=True))
    assert open_package(made.folder) == made
    assert made.precision == scheme
    said = [note for note in notes if f"{scheme}, cosine" in note]
    assert [note.split(":")[0] for note in said] == ["encoder.onnx", "decoder.onnx"]
    with pytest.raises(QuantizeError, match=rf"encoder\.onnx: the mean cosine of {scheme} to fp32 is 0\."):
        (tmp_path / "again").mkdir()
        quantize(dense_translator, settings.model_copy(update={"min_cosine": 1.0}), tmp_path / "again", QUIET)


# --- calibration --------------------------------------------------------------------------------


def test_a_decoder_is_fed_with_its_own_tokens(dense_translator):
    """Step by step, in the state that its own search would be in."""
    data = data_of_package(dense_translator)
    assert len(data.validation) == 24
    for role, graph in dense_translator.graphs.items():
        check_feeds(data.feeds[role], graph, role)
    session = open_session(model_path(dense_translator, "decoder"), find_device("cpu-1t"))
    steps = data.feeds["decoder"][:8]
    chosen = [int(run_graph(session, given)["logits"].argmax()) for given in steps]
    assert [int(given["input_ids"][0, 0]) for given in steps[1:]] == chosen[:-1]


def test_a_decoder_whose_caches_grow(translation_package):
    texts = [Translation(id=f"{n}", group="g", source="a file", target="x") for n in range(2)]
    steps = translation.feeds(translation_package, texts, translation_package.folder)["decoder"]
    check_feeds(steps, translation_package.graphs["decoder"], "here")
    assert [given["past_key_0"].shape[2] for given in steps] == [*range(8), *range(8)]
