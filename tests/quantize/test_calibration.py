from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgelr.device.load import find_device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, DataError, UnsupportedModelError
from edgelr.examples import Example, Translation
from edgelr.quantize.calibration import (
    check_feeds,
    data_of_package,
    data_of_source,
    feeds_of,
    read_feeds,
)
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.graph import describe_graph, run_graph
from edgelr.runtime.package import model_path


def test_a_text_is_a_call(make_package):
    package = make_package()
    texts = [
        Example(id=f"{n}", group="g", query="copy a file" if n else None, passage="a list") for n in range(3)
    ]
    feeds = feeds_of(package, texts, package.folder)["model"]
    assert [given["input_ids"].shape for given in feeds] == [(1, 4), (1, 5), (1, 4), (1, 5), (1, 4)]
    check_feeds(feeds, package.graphs["model"], "here")


def test_many_texts_are_some_evenly_over_their_order(make_package):
    texts = [Example(id=f"{n}", group="g", passage="a " * (1 + n // 100)) for n in range(1000)]
    made = make_package()
    feeds = feeds_of(made, texts, made.folder)["model"]
    lengths = [given["input_ids"].shape[1] for given in feeds]
    assert len(feeds) == 128
    assert lengths == sorted(lengths)
    assert set(lengths) == set(range(3, 13))


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
    steps = feeds_of(translation_package, texts, translation_package.folder)["decoder"]
    check_feeds(steps, translation_package.graphs["decoder"], "here")
    assert [given["past_key_0"].shape[2] for given in steps] == [*range(8), *range(8)]


def test_splits_of_a_source(make_package):
    rows = [
        Example(id=name, group="g", query="a file", passage=name) for name in ("calibration", "validation")
    ]
    source = SimpleNamespace(
        examples=lambda split, _: tuple(row for row in rows if row.id == split), folder=Path("source")
    )
    data = data_of_source(make_package(), source)
    assert [row.id for row in data.validation] == ["validation"]
    assert len(data.feeds["model"]) == 2


def test_an_unknown_task(make_package, reseal):
    package = reseal(make_package().folder, task="vision")
    with pytest.raises(UnsupportedModelError, match="the task 'vision' is unknown"):
        feeds_of(package, (), package.folder)


@pytest.mark.parametrize("names", [("x", "ids"), ("x.0", "ids.0"), ("x.7", "ids.7")])
def test_arrays_are_called_as_inputs(make_tiny, tmp_path, names):
    tiny = make_tiny("tied")
    arrays = dict(zip(names, tiny.feeds[0].values(), strict=True))
    write_arrays(tmp_path / "inputs.npz", {**arrays, "embedding.0": np.zeros(3)})
    (given,) = read_feeds(tmp_path / "inputs.npz", describe_graph(tiny.path))
    np.testing.assert_array_equal(given["x"], tiny.feeds[0]["x"])


def test_the_parity_cases_of_a_package_will_do(make_package):
    package = make_package()
    assert len(read_feeds(package.folder / "reference.npz", package.graphs["model"])) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((3, 64), np.nan, np.float32)}, "'x' of call 0 has NaN or infinity in it"),
        (
            {"x": np.zeros((3, 63), np.float32)},
            r"'x' of call 0 is float32 \[3, 63\], tied.onnx wants float32",
        ),
        ({"x": np.zeros(64, np.float32)}, r"is float32 \[64\]"),
        ({"x": np.zeros((3, 64))}, r"is float64 \[3, 64\]"),
        ({"x": None}, "call 0 has no array 'x'"),
        ({"x": None, "ids": None}, "no calibration data for tied.onnx"),
    ],
)
def test_what_does_not_fit(make_tiny, tmp_path, change, message):
    tiny = make_tiny("tied")
    arrays = {name: array for name, array in {**tiny.feeds[0], **change}.items() if array is not None}
    write_arrays(tmp_path / "inputs.npz", {**arrays, "other": np.zeros(1)})
    with pytest.raises(DataError, match=message):
        read_feeds(tmp_path / "inputs.npz", describe_graph(tiny.path))


def test_what_is_no_npz(make_tiny, tmp_path):
    (tmp_path / "inputs.npz").write_text("no arrays", encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match="cannot be read"):
        read_feeds(tmp_path / "inputs.npz", describe_graph(make_tiny("dense").path))
