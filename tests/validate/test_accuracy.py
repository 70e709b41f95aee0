import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, EdgelrError, ExportError, QuantizeError, UnsupportedModelError
from edgelr.examples import Example, write_examples
from edgelr.metrics import METRICS
from edgelr.metrics.scores import mean_scores
from edgelr.metrics.translation import translation_scores
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.validate.accuracy import (
    accuracy_rows,
    difference_notes,
    parity_difference,
    reference_scores,
    score_variant,
    scoring_notes,
    texts_to_score,
)

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
    assert stored == pytest.approx({metric: each.value for metric, each in scores.items()}, abs=1e-5)


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


def test_every_text_is_counted(make_package: Make, open_model: Open) -> None:
    package = make_package()
    calls: list[int] = []
    score_variant(package, open_model(package), package, lambda: calls.append(1))
    assert len(calls) == texts_to_score(package) == 24


def test_rows_have_an_interval_around_their_value(make_package: Make, open_model: Open) -> None:
    package = make_package(noise=0.5)
    rows = accuracy_rows(
        score_variant(package, open_model(package), package), variant="candidate", device="cpu-1t"
    )
    assert [row.metric for row in rows] == list(METRICS["sentence-embedding"])
    assert [row.examples for row in rows] == [24, 12, 12, 12]
    assert all(row.ci95[0] <= row.value <= row.ci95[1] for row in rows)
    assert {(row.variant, row.device) for row in rows} == {("candidate", "cpu-1t")}


def test_a_pair_is_compared_example_by_example() -> None:
    values = np.array([1.0, 0.5, 0.0, 0.25])
    dense, candidate = {"mrr@10": mean_scores(values)}, {"mrr@10": mean_scores(values - 0.125)}
    notes = difference_notes({"dense-fp32": dense, "candidate": candidate}, device="cpu-1t")
    assert notes == ("mrr@10, candidate less dense-fp32: -0.1250 [-0.1250, -0.1250] (cpu-1t, paired)",)
    assert difference_notes({"candidate": candidate}, device="cpu-1t") == ()


def test_metrics_are_only_explained_where_others_publish_them_too(make_package: Make) -> None:
    package = make_package()
    assert scoring_notes(package) == ()
    bleu, chrf = scoring_notes(replace(package, task="translation"))
    assert bleu.startswith("bleu by sacrebleu: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert chrf.startswith("chrf, chrf_to_dense by sacrebleu: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no")


def test_a_metric_that_is_no_mean_has_rows_and_notes_like_any_other() -> None:
    references = ["der Hund läuft schnell", "die Katze schläft heute lange"] * 20
    dense = ["der Hund läuft schnell", "die Katze schläft lange heute"] * 20
    outputs = ["der Hund rennt schnell", "die Katze schläft lange heute"] * 20
    scores = {
        "dense-fp32": translation_scores(dense, references, dense),
        "candidate": translation_scores(outputs, references, dense),
    }
    rows = accuracy_rows(scores["candidate"], variant="candidate", device="cpu-1t")
    assert [row.metric for row in rows] == list(METRICS["translation"])
    assert all(row.ci95[0] <= row.value <= row.ci95[1] and row.examples == 40 for row in rows)
    (agreement,) = [row.value for row in rows if row.metric == "agreement"]
    assert agreement == 0.5
    notes = difference_notes(scores, device="cpu-1t")
    assert [note.split(",")[0] for note in notes] == list(METRICS["translation"])
    assert re.fullmatch(
        r"bleu, candidate less dense-fp32: -\d+\.\d{4} \[-.*, -.*\] \(cpu-1t, paired\)", notes[0]
    )


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
    for check in (parity_difference, lambda package, session: score_variant(package, session, package)):
        with pytest.raises(error, match=rf"broken: the {precision} graph of tiny gives NaN or infinity"):
            check(package, open_model(package))


# --- faults -----------------------------------------------------------------------------------------


def test_an_unknown_task_is_named(make_package: Make, open_model: Open) -> None:
    package = replace(make_package(), task="translation")
    for check in (
        lambda: score_variant(package, open_model(package), package),
        lambda: reference_scores(package),
    ):
        with pytest.raises(UnsupportedModelError, match="the task 'translation' is unknown"):
            check()


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
        score_variant(package, open_model(package), package)


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
        texts_to_score(package)
