"""Accuracy of speech packages: greedy transcripts against references and the dense model's own."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, DataError, ExportError
from edgelr.examples import Utterance, write_examples
from edgelr.kinds.speech import parity
from edgelr.metrics import METRICS
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.runtime.package import model_path
from edgelr.runtime.transcribe import open_transcriber, text_of, transcribe
from edgelr.validate.accuracy import reference_scores, runs_to_score, score_variant

Sessions = dict[str, InferenceSession]


@pytest.fixture
def package(dense_speech: Package, tmp_path: Path) -> Package:
    """A copy to change; its files are not held against its manifest here."""
    folder = Path(shutil.copytree(dense_speech.folder, tmp_path / "package"))
    return replace(dense_speech, folder=folder)


def opened(package: Package, cpu: Device) -> Sessions:
    return {role: open_session(model_path(package, role), cpu, entries={}) for role in package.graphs}


@pytest.fixture(scope="module")
def sessions(dense_speech: Package, cpu: Device) -> Sessions:
    return opened(dense_speech, cpu)


def change_lines(package: Package, change: Callable[[list[str]], list[str]]) -> None:
    path = package.folder / "reference.npz"
    lines = read_arrays(path, ["dense_outputs"])["dense_outputs"].tobytes().decode().split("\n")
    content = "\n".join(change(lines)).encode()
    write_arrays(path, {"dense_outputs": np.frombuffer(content, np.uint8)})


def test_the_dense_graphs_say_what_torch_said(package: Package, sessions: Sessions) -> None:
    """Another implementation of the same search, on other graphs, one sound a call."""
    scores = score_variant(package, sessions, package)
    assert tuple(scores) == METRICS["automatic-speech-recognition"]
    assert scores["agreement"].value == 1.0
    assert scores["wer_to_dense"].value == 0.0
    assert all(found.examples == 12 for found in scores.values())


def test_eight_bits_say_nearly_the_same(small_speech: Package, dense_speech: Package, cpu: Device) -> None:
    """Of random weights, whose words are hardly likelier than others, only a part."""
    assert small_speech.precision == "int8-dynamic"
    scores = score_variant(small_speech, opened(small_speech, cpu), dense_speech)
    assert 0 < scores["agreement"].value <= 1.0


def test_scores_of_the_dense_model_need_neither_graph_nor_sound(package: Package, sessions: Sessions) -> None:
    run = score_variant(package, sessions, package)
    for role in package.graphs:
        model_path(package, role).unlink()
    shutil.rmtree(package.folder / "audio")
    stored = reference_scores(package)
    assert stored == {name: found.value for name, found in run.items()}


def test_every_sound_is_counted_as_soon_as_it_is_transcribed(package: Package, sessions: Sessions) -> None:
    calls: list[int] = []
    score_variant(package, sessions, package, lambda: calls.append(1))
    assert len(calls) == runs_to_score(package) == 12
    assert parity(package, sessions) is None


def test_the_dense_model_is_that_of_the_package_given_for_it(
    package: Package, sessions: Sessions, dense_speech: Package
) -> None:
    change_lines(package, lambda lines: ["something else", *lines[1:]])
    assert score_variant(dense_speech, sessions, package)["agreement"].value == 11 / 12
    assert score_variant(package, sessions, dense_speech)["agreement"].value == 1.0


def test_references_are_what_was_said(package: Package, sessions: Sessions, cpu: Device) -> None:
    """Case and punctuation do not count."""
    examples = folder_examples(package.folder, Utterance)
    transcriber = open_transcriber(package, cpu)
    said = [
        text_of(transcribe(transcriber, [example_sound(package.folder, each)], beams=1)) for each in examples
    ]
    right = [
        replace(each, text=f" {text.upper().replace(' ', ',  ')}!")
        for each, text in zip(examples, said, strict=True)
    ]
    write_examples(package.folder / "examples.jsonl", right)
    scores = score_variant(package, sessions, package)
    assert (scores["wer"].value, scores["exact_match"].value) == (0.0, 1.0)
    assert reference_scores(package)["exact_match"] == 1.0


def test_the_search_is_greedy_whatever_the_packages_beams(package: Package, sessions: Sessions) -> None:
    path = package.folder / "generation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_beams": 4}))
    assert score_variant(package, sessions, package)["agreement"].value == 1.0


def test_scores_that_are_no_numbers_are_an_error_not_a_transcript(package: Package, cpu: Device) -> None:
    path = model_path(package, "decoder")
    model = onnx.load(path)
    (head,) = (node for node in model.graph.node if "logits" in node.output)
    head.output[list(head.output).index("logits")] = "sound"
    model.graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "nothing"))
    model.graph.node.append(helper.make_node("Add", ["sound", "nothing"], ["logits"]))
    onnx.save(model, path)
    with pytest.raises(ExportError, match="gives NaN or infinity"):
        score_variant(package, opened(package, cpu), package)


def test_without_its_sounds_there_is_nothing_to_score(package: Package, sessions: Sessions) -> None:
    shutil.rmtree(package.folder / "audio")
    with pytest.raises(DataError, match=r"has no audio/: the sounds that its accuracy is measured on"):
        score_variant(package, sessions, package)


def test_examples_of_another_task_are_named(package: Package, sessions: Sessions) -> None:
    (package.folder / "examples.jsonl").write_text(
        '{"id": "a", "group": "g", "source": "s", "target": "t"}\n'
    )
    with pytest.raises(DamagedArtifactError, match=r"examples\.jsonl:1: not an example"):
        score_variant(package, sessions, package)


def test_a_reference_of_other_examples_is_named(package: Package, sessions: Sessions) -> None:
    change_lines(package, lambda lines: lines[1:])
    with pytest.raises(DamagedArtifactError, match="11 dense outputs do not fit 12 examples"):
        score_variant(package, sessions, package)
