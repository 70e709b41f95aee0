"""Accuracy of sentence encoders: vectors against the dense model's, which travel in the package."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, EdgelrError, ExportError, QuantizeError
from edgelr.examples import Example, write_examples
from edgelr.metrics import METRICS
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.validate.embeddings import (
    parity_difference,
    score_dense_sentences,
    score_sentences,
    scored_pairs,
)

Make = Callable[..., Package]
Open = Callable[[Package], InferenceSession]


@pytest.fixture
def open_model(cpu: Device) -> Open:
    return lambda package: open_session(model_path(package), cpu, entries={})


def change_reference(package: Package, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    path = package.folder / "reference.npz"
    arrays = read_arrays(path)
    change(arrays)
    write_arrays(path, arrays)


def test_the_dense_graph_scores_like_its_stored_outputs(make_package: Make, open_model: Open) -> None:
    package = make_package()
    scores = score_sentences(package, open_model(package), package, None)
    assert tuple(scores) == METRICS["sentence-embedding"]
    # the stored outputs are fp16: cosines are off by some 1e-7, and no ranking of these examples changes
    np.testing.assert_allclose(scores["cosine"].statistics, 1.0, atol=1e-5)
    assert scores["overlap@10"].value == 1.0
    stored = score_dense_sentences(package)
    for metric, found in stored.items():
        assert found.value == pytest.approx(scores[metric].value, abs=1e-5)


def test_noise_is_seen(make_package: Make, open_model: Open) -> None:
    noisy = make_package("noisy", noise=0.5)
    scores = score_sentences(noisy, open_model(noisy), noisy, None)
    assert scores["cosine"].value < 0.99


def test_the_reference_is_that_of_the_package_given_for_it(make_package: Make, open_model: Open) -> None:
    package, other = make_package(), make_package("other")
    change_reference(other, lambda arrays: arrays.update(dense_queries=-arrays["dense_queries"]))
    cosine = score_sentences(package, open_model(package), other, None)["cosine"].statistics
    queries = len(cosine) // 2
    assert cosine[:queries].max() < 0 < cosine[queries:].min()


# --- parity -----------------------------------------------------------------------------------------


def test_parity_is_measured_on_every_stored_case(make_package: Make, open_model: Open) -> None:
    package = make_package()
    assert parity_difference(package, open_model(package)) == 0.0, "the same graph made the reference"
    for case in "012":
        changed = make_package(f"changed{case}")
        change_reference(changed, lambda arrays, case=case: arrays[f"embedding.{case}"].__iadd__(0.25))
        assert parity_difference(changed, open_model(changed)) == pytest.approx(0.25, abs=1e-6)  # fp32


@pytest.mark.parametrize(("precision", "error"), [("fp32", ExportError), ("int8-dynamic", QuantizeError)])
def test_what_is_not_finite_is_an_error_of_the_stage_that_made_it(
    make_package: Make, open_model: Open, precision: str, error: type[EdgelrError]
) -> None:
    package = make_package("broken", precision=precision, scale=float("nan"))
    for check in (
        parity_difference,
        lambda package, session: score_sentences(package, session, package, None),
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
            "vectors have 16 numbers, dense ones 8",
        ),
    ],
)
def test_a_reference_that_does_not_fit_is_named(
    make_package: Make, open_model: Open, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    package = make_package()
    change_reference(package, change)
    with pytest.raises(DamagedArtifactError, match=message):
        score_sentences(package, open_model(package), package, None)


def test_an_incomplete_parity_case_is_named(make_package: Make, open_model: Open) -> None:
    package = make_package()
    change_reference(package, lambda arrays: arrays.pop("input_ids.1"))
    with pytest.raises(DamagedArtifactError, match="parity case 1 is incomplete"):
        parity_difference(package, open_model(package))
    change_reference(package, lambda arrays: arrays.pop("embedding.1"))
    change_reference(package, lambda arrays: arrays.update({"embedding.2": arrays["embedding.2"][:1]}))
    with pytest.raises(DamagedArtifactError, match=r"embedding\.2 has shape \[1, 16\]"):
        parity_difference(package, open_model(package))


def test_an_example_without_a_query_is_named(make_package: Make) -> None:
    package = make_package()
    first, *others = folder_examples(package.folder, Example)
    path: Path = package.folder / "examples.jsonl"
    write_examples(path, (replace(first, query=None), *others))
    with pytest.raises(DamagedArtifactError, match="an example has no query"):
        scored_pairs(package)
