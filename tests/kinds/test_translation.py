"""Accuracy of translation packages: greedy translations against references and the dense model's own."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, EdgelrError, ExportError, QuantizeError
from edgelr.examples import Translation, write_examples
from edgelr.kinds.translation import timed_inputs
from edgelr.metrics import METRICS
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.runtime.tokens import open_codec
from edgelr.runtime.translate import open_translator, translate
from edgelr.validate.accuracy import reference_scores, score_variant

Sessions = dict[str, InferenceSession]


@pytest.fixture
def package(dense_translator: Package, tmp_path: Path) -> Package:
    """A copy to change; its files are not held against its manifest here."""
    folder = Path(shutil.copytree(dense_translator.folder, tmp_path / "package"))
    return replace(dense_translator, folder=folder)


@pytest.fixture(scope="module")
def sessions(dense_translator: Package, cpu: Device) -> Sessions:
    roles = dense_translator.graphs
    return {role: open_session(model_path(dense_translator, role), cpu, entries={}) for role in roles}


@pytest.mark.parametrize(("precision", "error"), [("fp32", ExportError), ("weight-int4", QuantizeError)])
def test_scores_that_are_no_numbers_are_an_error_not_a_translation(
    package: Package, cpu: Device, precision: str, error: type[EdgelrError]
) -> None:
    path = model_path(package, "decoder")
    model = onnx.load(path)
    (head,) = (node for node in model.graph.node if "logits" in node.output)
    head.output[list(head.output).index("logits")] = "sound"
    nothing = numpy_helper.from_array(np.array(np.nan, np.float32), "nothing")
    model.graph.initializer.append(nothing)
    model.graph.node.append(helper.make_node("Add", ["sound", "nothing"], ["logits"]))
    onnx.save(model, path)
    broken = replace(package, precision=precision)
    opened = {role: open_session(model_path(broken, role), cpu, entries={}) for role in broken.graphs}
    with pytest.raises(error, match="gives NaN or infinity"):
        score_variant(broken, opened, broken)


def change_lines(package: Package, change: Callable[[list[str]], list[str]]) -> None:
    path = package.folder / "reference.npz"
    lines = read_arrays(path)["dense_outputs"].tobytes().decode("utf-8").split("\n")
    store(package, "\n".join(change(lines)).encode("utf-8"))


def store(package: Package, content: bytes) -> None:
    write_arrays(package.folder / "reference.npz", {"dense_outputs": np.frombuffer(content, np.uint8)})


def test_the_dense_graphs_say_what_torch_said(package: Package, sessions: Sessions) -> None:
    """Another implementation of the same search, on other graphs, one text a call."""
    scores = score_variant(package, sessions, package)
    assert tuple(scores) == METRICS["translation"]
    assert scores["agreement"].value == 1.0
    assert scores["chrf_to_dense"].value == 100.0
    assert all(found.examples == 24 for found in scores.values())


def test_scores_of_the_dense_model_need_no_graph(package: Package, sessions: Sessions) -> None:
    run = score_variant(package, sessions, package)
    for role in package.graphs:
        model_path(package, role).unlink()
    stored = reference_scores(package)
    assert stored == {name: found.value for name, found in run.items()}


def test_every_text_is_counted_as_soon_as_it_is_translated(package: Package, sessions: Sessions) -> None:
    calls: list[int] = []
    score_variant(package, sessions, package, lambda: calls.append(1))
    assert len(calls) == 24


def test_the_dense_model_is_that_of_the_package_given_for_it(
    package: Package, sessions: Sessions, dense_translator: Package
) -> None:
    change_lines(package, lambda lines: ["something else", *lines[1:]])
    assert score_variant(dense_translator, sessions, package)["agreement"].value == 23 / 24
    assert score_variant(package, sessions, dense_translator)["agreement"].value == 1.0


def test_references_are_the_examples_targets(package: Package, sessions: Sessions, cpu: Device) -> None:
    """Spaces do not count: of line breaks nothing is left in what is stored."""
    examples = folder_examples(package.folder, Translation)
    said = list(translate(open_translator(package, cpu), [each.source for each in examples], beams=1))
    right = [
        replace(each, target=f" {text.replace(' ', '  ')}\n")
        for each, text in zip(examples, said, strict=True)
    ]
    write_examples(package.folder / "examples.jsonl", right)
    scores = score_variant(package, sessions, package)
    assert scores["exact_match"].value == 1.0
    assert reference_scores(package)["exact_match"] == 1.0


def test_the_search_is_greedy_whatever_the_packages_beams(package: Package, sessions: Sessions) -> None:
    path = package.folder / "generation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_beams": 4}))
    assert score_variant(package, sessions, package)["agreement"].value == 1.0


def test_an_empty_translation_is_one_like_any_other(package: Package, sessions: Sessions) -> None:
    change_lines(package, lambda lines: [""] * len(lines))
    found = reference_scores(package)
    assert found["agreement"] == 1.0
    assert found["exact_match"] == 0.0
    outputs = score_variant(package, sessions, package)
    assert outputs["agreement"].value < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "23 dense outputs do not fit 24 examples"),
        (lambda lines: [*lines, ""], "25 dense outputs do not fit 24 examples"),
    ],
)
def test_a_reference_of_other_examples_is_named(package: Package, change: Any, message: str) -> None:
    change_lines(package, change)
    with pytest.raises(DamagedArtifactError, match=message) as caught:
        reference_scores(package)
    assert "reference.npz" in str(caught.value)


def test_a_reference_that_is_no_text_is_named(package: Package) -> None:
    store(package, b"\xff\n" * 23)
    with pytest.raises(DamagedArtifactError, match="dense_outputs is no text"):
        reference_scores(package)
    write_arrays(package.folder / "reference.npz", {"other": np.zeros(1)})
    with pytest.raises(DamagedArtifactError, match="no array dense_outputs"):
        reference_scores(package)


def test_numbers_are_no_text(package: Package) -> None:
    write_arrays(package.folder / "reference.npz", {"dense_outputs": np.full(24, 0.1)})
    with pytest.raises(DamagedArtifactError, match="reference"):
        reference_scores(package)


def test_a_source_has_the_length_asked_for_and_ends_as_one(dense_translator: Package) -> None:
    examples = folder_examples(dense_translator.folder, Translation)
    codec = open_codec(dense_translator.folder, dense_translator.settings)
    *first, end = codec.encode(examples[0].source)
    second = codec.encode(examples[1].source)
    for tokens in (1, len(first), len(first) + 3, 300):
        inputs = timed_inputs(dense_translator, tokens)
        assert inputs["new_tokens"] == tokens, "as many are written"
        (ids,) = inputs["input_ids"]
        assert len(ids) == tokens
        assert ids[-1] == end == 0
        assert ids[:-1] == [*first, *second[:-1]][: tokens - 1] or tokens == 300
        assert 0 not in ids[:-1], "one end"
