"""Packages that recommend: scored by what users liked, next to the dense model's answers in the package."""

import json
from pathlib import Path

import numpy as np
import pytest
from recommendation_fixtures import ITEMS, USERS

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.examples import Example, History
from edgelr.kinds.recommendation import compare, dense_answers, feeds, judge, parity, timed, timed_inputs
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.quantize.calibration import check_feeds
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.validate.accuracy import reference_scores, runs_to_score, score_variant


@pytest.fixture
def sessions(shop_package: Package, cpu: Device):
    return {"model": open_session(model_path(shop_package), cpu)}


def change_reference(package: Package, **changed: object) -> None:
    path = package.folder / "reference.npz"
    arrays = read_arrays(path)
    for name, change in changed.items():
        arrays[name] = change(arrays[name])  # type: ignore[operator]
    write_arrays(path, {name: array for name, array in arrays.items() if array is not None})


def test_a_package_is_scored_next_to_the_dense_model(shop_package: Package, sessions) -> None:
    calls: list[int] = []
    scores = score_variant(shop_package, sessions, shop_package, lambda: calls.append(1))
    assert tuple(scores) == METRICS["recommendation"]
    assert len(calls) == runs_to_score(shop_package) == USERS
    assert 0.3 < scores["overlap@20"].value < 1.0, "it is factored"
    assert reference_scores(shop_package)["overlap@20"] == 1.0


def test_answers_that_do_not_fit_the_examples(shop_package: Package) -> None:
    with pytest.raises(DamagedArtifactError, match="examples, 3 were wanted"):
        dense_answers(shop_package, 3)
    change_reference(shop_package, dense_liked_ends=lambda ends: ends[:-1])
    with pytest.raises(DamagedArtifactError, match="dense_liked does not fit"):
        dense_answers(shop_package, USERS)
    with pytest.raises(DamagedArtifactError, match="is no history"):
        judge([Example(id="a", group="a", passage="p")], shop_package.folder)


def test_parity_is_with_torch(shop_package: Package, sessions) -> None:
    assert parity(shop_package, sessions) < 1e-5  # fp32 rounding of products of 16 numbers
    change_reference(shop_package, **{"scores.1": lambda scores: scores + 0.25})
    assert parity(shop_package, sessions) == pytest.approx(0.25, abs=1e-5)
    change_reference(shop_package, **{"seen.1": lambda _: None})
    with pytest.raises(DamagedArtifactError, match="parity case 1 is incomplete"):
        parity(shop_package, sessions)


def test_feeds_are_what_the_graph_reads(shop_package: Package) -> None:
    examples = folder_examples(shop_package.folder, History)
    given = feeds(shop_package, examples, shop_package.folder)
    check_feeds(given["model"], shop_package.graphs["model"], "here")
    assert len(given["model"]) == USERS


def test_a_copy_is_equal(shop_package: Package) -> None:
    found = compare(shop_package, shop_package.folder, Progress(quiet=True))
    assert found["model"] == pytest.approx(1.0, abs=1e-6)


def test_a_call_is_timed_as_an_app_makes_it(shop_package: Package, sessions, cpu: Device) -> None:
    assert timed(shop_package, cpu)["model"] == str(model_path(shop_package))
    inputs = timed_inputs(shop_package, 2)
    arrays = {name: np.array(values, np.int64) for name, values in inputs.items()}
    scores, values, items = sessions["model"].run(None, arrays)
    assert (scores.shape, values.shape, items.shape) == ((2, ITEMS), (2, 20), (2, 20))


def test_an_example_of_a_stranger(shop_package: Package, sessions) -> None:
    stranger = History(id="nobody", group="nobody", seen=(), liked=(1,), disliked=())
    judged = judge([stranger], shop_package.folder)
    with pytest.raises(DamagedArtifactError, match="'nobody', who is not listed"):
        judged.answer(shop_package, sessions, None)


def test_a_graph_of_another_task(shop_package: Package, make_package, cpu: Device) -> None:
    other = {"model": open_session(model_path(make_package("other")), cpu)}
    examples = folder_examples(shop_package.folder, History)
    with pytest.raises(
        UnsupportedModelError, match="inputs this task does not give: attention_mask, input_ids"
    ):
        judge(examples, shop_package.folder).answer(shop_package, other, None)


def test_what_is_in_the_package(shop_package: Package) -> None:
    names = {path.name for path in Path(shop_package.folder).iterdir()}
    assert {"users.txt", "items.txt", "examples.jsonl", "model.onnx", "reference.npz"} <= names
    first = json.loads((shop_package.folder / "examples.jsonl").read_text().splitlines()[0])
    assert set(first) == {"id", "group", "seen", "liked", "disliked"}
