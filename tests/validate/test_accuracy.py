import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from onnxruntime import InferenceSession

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import UnsupportedModelError
from edgelr.kinds.kind import kind_of
from edgelr.metrics import METRICS
from edgelr.metrics.scores import mean_scores
from edgelr.metrics.translation import translation_scores
from edgelr.runtime.package import model_path
from edgelr.validate.accuracy import (
    accuracy_rows,
    difference_notes,
    reference_scores,
    runs_to_score,
    score_variant,
)

Make = Callable[..., Package]
Open = Callable[[Package], dict[str, InferenceSession]]


@pytest.fixture
def open_model(cpu: Device) -> Open:
    return lambda package: {
        role: open_session(model_path(package, role), cpu, entries={}) for role in package.graphs
    }


def test_every_text_is_counted(make_package: Make, open_model: Open, dense_translator: Package) -> None:
    """Queries and passages of pairs, sources of translations."""
    for package, texts in ((make_package(), 24), (dense_translator, 24)):
        calls: list[int] = []
        score_variant(package, open_model(package), package, lambda calls=calls: calls.append(1))
        assert len(calls) == runs_to_score(package) == texts


def test_each_task_has_its_metrics_and_the_dense_model_scores_like_its_stored_outputs(
    make_package: Make, open_model: Open, dense_translator: Package
) -> None:
    for package in (make_package(), dense_translator):
        scores = score_variant(package, open_model(package), package)
        assert tuple(scores) == METRICS[package.task]
        stored = reference_scores(package)
        # Stored vectors are fp16.
        assert stored == pytest.approx({metric: found.value for metric, found in scores.items()}, abs=1e-5)


def test_parity_cases_are_those_of_embeddings(
    make_package: Make, open_model: Open, dense_translator: Package
) -> None:
    package = make_package()
    assert kind_of(package).parity(package, open_model(package)) == 0.0, "the same graph made the reference"
    assert kind_of(dense_translator).parity(dense_translator, open_model(dense_translator)) is None


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
    assert kind_of(package).notes() == ()
    bleu, chrf = kind_of(replace(package, task="translation")).notes()
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


# --- faults -----------------------------------------------------------------------------------------


def test_an_unknown_task_is_named(make_package: Make, open_model: Open) -> None:
    package = replace(make_package(), task="summary")
    for check in (
        lambda: score_variant(package, open_model(package), package),
        lambda: reference_scores(package),
    ):
        with pytest.raises(UnsupportedModelError, match="the task 'summary' is unknown"):
            check()
