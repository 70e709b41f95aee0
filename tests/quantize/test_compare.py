"""How far quantized graphs of a package are from fp32."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgelr.artifacts import Package
from edgelr.errors import QuantizeError, UnsupportedModelError
from edgelr.progress import Progress
from edgelr.quantize import compare
from edgelr.quantize.compare import compare_with_fp32
from edgelr.quantize.stage import quantize
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.package import open_package
from edgelr.runtime.text import INDEX

QUIET = Progress(quiet=True)
Change = Callable[[np.ndarray], np.ndarray]


def graphs_of(package: Package, folder: Path) -> Path:
    """Copies of the graphs, to stand for quantized ones."""
    folder.mkdir()
    for graph in package.graphs.values():
        shutil.copyfile(package.folder / graph.file, folder / graph.file)
    return folder


def change_weights(path: Path, change: Change) -> None:
    """Change the last matrix that a graph multiplies by: of a decoder its head."""
    proto = onnx.load(path)
    matrices = {each.name: each for each in proto.graph.initializer if len(each.dims) == 2}
    products = (node.input[1] for node in proto.graph.node if node.op_type == "MatMul")
    last = [matrices[name] for name in products if name in matrices][-1]
    array = change(numpy_helper.to_array(last).copy())
    last.CopyFrom(numpy_helper.from_array(array.astype(np.float32), last.name))
    onnx.save(proto, path)


def noisy(share: float) -> Change:
    draw = np.random.default_rng(0)
    return lambda array: array + share * array.std() * draw.normal(size=array.shape)


# --- translations -----------------------------------------------------------------------------------


def test_the_same_graphs_are_the_same(dense_translator: Package, tmp_path: Path) -> None:
    found = compare_with_fp32(dense_translator, graphs_of(dense_translator, tmp_path / "q"), QUIET)
    assert found == pytest.approx({"encoder": 1.0, "decoder": 1.0}, abs=1e-6)


def test_each_graph_has_its_own_cosine(dense_translator: Package, tmp_path: Path) -> None:
    """What an encoder gives is what its decoder reads, so that a decoder answers for both."""
    folder = graphs_of(dense_translator, tmp_path / "q")
    change_weights(folder / "decoder.onnx", noisy(0.3))
    decoder = compare_with_fp32(dense_translator, folder, QUIET)
    assert decoder["encoder"] == pytest.approx(1.0, abs=1e-6)
    assert 0.5 < decoder["decoder"] < 0.99
    shutil.copyfile(dense_translator.folder / "decoder.onnx", folder / "decoder.onnx")
    change_weights(folder / "encoder.onnx", noisy(0.3))
    encoder = compare_with_fp32(dense_translator, folder, QUIET)
    assert encoder["encoder"] < 0.999
    assert encoder["decoder"] < 0.9999


def test_more_noise_is_further_away(dense_translator: Package, tmp_path: Path) -> None:
    cosines = []
    for share in (0.05, 0.2, 0.8):
        folder = graphs_of(dense_translator, tmp_path / f"q{share}")
        change_weights(folder / "decoder.onnx", noisy(share))
        cosines.append(compare_with_fp32(dense_translator, folder, QUIET)["decoder"])
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
    found = compare_with_fp32(dense_translator, folder, QUIET)
    assert found["decoder"] == pytest.approx(1.0, abs=1e-6)


def test_the_texts_are_those_that_a_package_translates(
    dense_translator: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its prefix, and no longer than it takes."""
    read: list[list[int]] = []
    chosen = compare._Pair.chosen

    def noted(self: Any, source: dict[str, np.ndarray], generation: Any) -> list[int]:
        read.append(source["input_ids"][0].tolist())
        return chosen(self, source, generation)

    monkeypatch.setattr(compare._Pair, "chosen", noted)
    folder = graphs_of(dense_translator, tmp_path / "q")
    compare_with_fp32(dense_translator, folder, QUIET)
    plain, read[:] = list(read), []
    assert len(plain) == 24
    settings = {**dense_translator.settings, "prefix": "one two ", "max_tokens": 6}
    compare_with_fp32(replace(dense_translator, settings=settings), folder, QUIET)
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
        compare_with_fp32(dense_translator, folder, QUIET)


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


# --- embeddings -------------------------------------------------------------------------------------


def test_embeddings_are_compared_and_their_index_is_made_anew(
    make_package: Callable[..., Package], tmp_path: Path
) -> None:
    package = make_package()
    folder = graphs_of(package, tmp_path / "q")
    same = compare_with_fp32(package, folder, QUIET)
    assert same == pytest.approx({"model": 1.0}, abs=1e-6)
    before = read_arrays(folder / INDEX)["passages"]
    np.testing.assert_array_equal(before, read_arrays(package.folder / INDEX)["passages"])
    change_weights(folder / "model.onnx", noisy(0.5))
    assert compare_with_fp32(package, folder, QUIET)["model"] < 0.98
    assert np.abs(read_arrays(folder / INDEX)["passages"] - before).max() > 0.01


def test_an_unknown_task_is_named(make_package: Callable[..., Package], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="the task 'summary' is unknown"):
        compare_with_fp32(replace(make_package(), task="summary"), tmp_path, QUIET)
