"""Accuracy of sentence encoders: vectors against the dense model's, which travel in the package."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_copies import change_weights, graphs_of, noisy
from onnxruntime import InferenceSession

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, EdgelrError, ExportError, QuantizeError
from edgelr.examples import Example, write_examples
from edgelr.kinds.sentence_embedding import compare, feeds, parity, timed_inputs, tokens_of_length
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.quantize.calibration import check_feeds
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.runtime.text import INDEX, package_tokenizer
from edgelr.validate.accuracy import reference_scores, score_variant

QUIET = Progress(quiet=True)
Make = Callable[..., Package]
Open = Callable[[Package], dict[str, InferenceSession]]


@pytest.fixture
def open_model(cpu: Device) -> Open:
    return lambda package: {"model": open_session(model_path(package), cpu, entries={})}


def change_reference(package: Package, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    path = package.folder / "reference.npz"
    arrays = read_arrays(path)
    change(arrays)
    write_arrays(path, arrays)


def test_the_dense_graph_scores_like_its_stored_outputs(make_package: Make, open_model: Open) -> None:
    package = make_package()
    scores = score_variant(package, open_model(package), package)
    assert tuple(scores) == METRICS["sentence-embedding"]
    # the stored outputs are fp16: cosines are off by some 1e-7, and no ranking of these examples changes
    np.testing.assert_allclose(scores["cosine"].statistics, 1.0, atol=1e-5)
    assert scores["overlap@10"].value == 1.0
    stored = reference_scores(package)
    for metric, found in stored.items():
        assert found == pytest.approx(scores[metric].value, abs=1e-5)


def test_noise_is_seen(make_package: Make, open_model: Open) -> None:
    noisy = make_package("noisy", noise=0.5)
    scores = score_variant(noisy, open_model(noisy), noisy)
    assert scores["cosine"].value < 0.99


def test_the_reference_is_that_of_the_package_given_for_it(make_package: Make, open_model: Open) -> None:
    package, other = make_package(), make_package("other")
    change_reference(other, lambda arrays: arrays.update(dense_queries=-arrays["dense_queries"]))
    cosine = score_variant(package, open_model(package), other)["cosine"].statistics
    queries = len(cosine) // 2
    assert cosine[:queries].max() < 0 < cosine[queries:].min()


# --- parity -----------------------------------------------------------------------------------------


def test_parity_is_measured_on_every_stored_case(make_package: Make, open_model: Open) -> None:
    package = make_package()
    assert parity(package, open_model(package)) == 0.0, "the same graph made the reference"
    for case in "012":
        changed = make_package(f"changed{case}")
        change_reference(changed, lambda arrays, case=case: arrays[f"embedding.{case}"].__iadd__(0.25))
        assert parity(changed, open_model(changed)) == pytest.approx(0.25, abs=1e-6)  # fp32


@pytest.mark.parametrize(("precision", "error"), [("fp32", ExportError), ("int8-dynamic", QuantizeError)])
def test_what_is_not_finite_is_an_error_of_the_stage_that_made_it(
    make_package: Make, open_model: Open, precision: str, error: type[EdgelrError]
) -> None:
    package = make_package("broken", precision=precision, scale=float("nan"))
    for check in (
        parity,
        lambda package, session: score_variant(package, session, package),
    ):
        with pytest.raises(error, match=rf"broken: the {precision} graph of tiny gives NaN or infinity"):
            check(package, open_model(package))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("dense_queries"), "no array dense_queries"),
        (
            lambda arrays: arrays.update(dense_queries=arrays["dense_queries"][1:]),
            r"\[11, 16\].* do not fit 12",
        ),
        (
            lambda arrays: arrays.update(
                {key: arrays[key][:, :8] for key in ("dense_queries", "dense_passages")}
            ),
            "vectors have 16 numbers, those of the dense model 8",
        ),
    ],
)
def test_a_reference_that_does_not_fit_is_named(
    make_package: Make, open_model: Open, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    package = make_package()
    change_reference(package, change)
    with pytest.raises(DamagedArtifactError, match=message):
        score_variant(package, open_model(package), package)


def test_an_incomplete_parity_case_is_named(make_package: Make, open_model: Open) -> None:
    package = make_package()
    change_reference(package, lambda arrays: arrays.pop("input_ids.1"))
    with pytest.raises(DamagedArtifactError, match="parity case 1 is incomplete"):
        parity(package, open_model(package))
    change_reference(package, lambda arrays: arrays.pop("embedding.1"))
    change_reference(package, lambda arrays: arrays.update({"embedding.2": arrays["embedding.2"][:1]}))
    with pytest.raises(DamagedArtifactError, match=r"embedding\.2 has shape \[1, 16\]"):
        parity(package, open_model(package))


def test_an_example_without_a_query_is_named(make_package: Make) -> None:
    package = make_package()
    first, *others = folder_examples(package.folder, Example)
    path: Path = package.folder / "examples.jsonl"
    write_examples(path, (replace(first, query=None), *others))
    with pytest.raises(DamagedArtifactError, match="an example has no query"):
        reference_scores(package)


# --- quantization, timing -----------------------------------------------------------------------


def test_embeddings_are_compared_and_their_index_is_made_anew(
    make_package: Callable[..., Package], tmp_path: Path
) -> None:
    package = make_package()
    folder = graphs_of(package, tmp_path / "q")
    same = compare(package, folder, QUIET)
    assert same == pytest.approx({"model": 1.0}, abs=1e-6)
    before = read_arrays(folder / INDEX)["passages"]
    np.testing.assert_array_equal(before, read_arrays(package.folder / INDEX)["passages"])
    change_weights(folder / "model.onnx", noisy(0.5))
    assert compare(package, folder, QUIET)["model"] < 0.98
    assert np.abs(read_arrays(folder / INDEX)["passages"] - before).max() > 0.01


def test_a_text_is_a_call(make_package):
    package = make_package()
    texts = [
        Example(id=f"{n}", group="g", query="copy a file" if n else None, passage="a list") for n in range(3)
    ]
    found = feeds(package, texts, package.folder)["model"]
    assert [given["input_ids"].shape for given in found] == [(1, 4), (1, 5), (1, 4), (1, 5), (1, 4)]
    check_feeds(found, package.graphs["model"], "here")


def test_many_texts_are_some_evenly_over_their_order(make_package):
    texts = [Example(id=f"{n}", group="g", passage="a " * (1 + n // 100)) for n in range(1000)]
    made = make_package()
    found = feeds(made, texts, made.folder)["model"]
    lengths = [given["input_ids"].shape[1] for given in found]
    assert len(found) == 128
    assert lengths == sorted(lengths)
    assert set(lengths) == set(range(3, 13))


def test_inputs_have_exactly_the_length_asked_for(make_package: Make) -> None:
    tokenizer = package_tokenizer(make_package())
    whole = tokenizer.encode("copy a file").ids
    for tokens in (1, len(whole), 3 * len(whole) + 1):
        inputs = tokens_of_length(tokenizer, ["copy a file"], tokens)
        assert inputs["input_ids"] == [(whole * 4)[:tokens]]
        assert inputs["attention_mask"] == [[1] * tokens]
    both = tokens_of_length(tokenizer, ["copy", "delete a file"], 7)["input_ids"][0]
    assert both[:3] == tokenizer.encode("copy").ids
    assert both[3:] == tokenizer.encode("delete a file").ids[:4]


def test_the_text_of_a_package_is_its_own(make_package: Make) -> None:
    package = make_package()
    inputs = timed_inputs(package, 5)
    start = package_tokenizer(package).encode("Copy data and mode bits").ids[:5]
    assert inputs == {"input_ids": [start], "attention_mask": [[1] * 5]}
