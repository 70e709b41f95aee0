import numpy as np
import pytest

from edgelr.artifacts import Graph, Tensor
from edgelr.errors import DataError, UnsupportedModelError, UsageError
from edgelr.load.arrays import calls_of, load_arrays
from edgelr.runtime.calls import read_calls

GRAPH = Graph(
    file="model.onnx",
    inputs=(
        Tensor(name="x", dtype="float", shape=("n", 3)),
        Tensor(name="ids", dtype="int64", shape=("n",)),
    ),
    outputs=(),
)
COUNTS = {"train": 0, "calibration": 4, "validation": 2, "test": 3}


def rows(count: int) -> dict[str, np.ndarray]:
    return {"x": np.arange(3 * count, dtype=np.float32).reshape(count, 3), "ids": np.arange(count)}


def calls(path, folder):
    return list(calls_of(path, GRAPH, folder))


def test_an_example_is_a_row(tmp_path):
    np.savez(tmp_path / "a.npz", **rows(5), other=np.zeros(2))
    found = calls("a.npz", tmp_path)
    assert len(found) == 5
    assert found[2][1]["x"].tolist() == [[6, 7, 8]]
    assert found[2][1]["ids"].tolist() == [2]


def test_or_a_numbered_call(tmp_path):
    numbered = {f"{name}.{n}": array for n in (3, 11) for name, array in rows(n).items()}
    np.savez(tmp_path / "a.npz", **numbered)
    assert [len(call["x"]) for _, call in calls("a.npz", tmp_path)] == [3, 11]


def test_or_what_a_generator_gives(tmp_path):
    (tmp_path / "made.py").write_text(
        "import numpy as np\n"
        "def inputs():\n"
        "    for n in range(4):\n"
        "        call = {'x': np.full((1, 3), n, np.float32), 'ids': np.array([n])}\n"
        "        yield ('even' if n % 2 == 0 else 'odd', call) if n else call\n",
        encoding="utf-8",
    )
    found = calls("made.py:inputs", tmp_path)
    assert [group for group, _ in found] == ["", "odd", "even", "odd"]
    assert found[3][1]["ids"].tolist() == [3]


def test_splits_share_no_example_and_are_read_as_they_were(tmp_path):
    np.savez(tmp_path / "a.npz", **rows(20))
    splits = load_arrays("a.npz", GRAPH, COUNTS, 0, tmp_path, tmp_path / "data")
    assert {split: len(examples) for split, examples in splits.items()} == COUNTS
    seen = [
        call["ids"][0]
        for split in ("calibration", "validation", "test")
        for call in read_calls(tmp_path / "data", splits[split])
    ]
    assert len(set(seen)) == 9
    again = load_arrays("a.npz", GRAPH, COUNTS, 0, tmp_path, tmp_path / "again")
    assert again == splits


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros((3, 3))}, "has arrays y, the graph also wants x, ids"),
        (
            {"x": np.zeros((3, 3), np.float32), "ids": np.zeros(2, np.int64)},
            "different numbers of rows: x 3, ids 2",
        ),
        ({"x": np.zeros((9, 3)), "ids": np.zeros(9, np.int64)}, r"call 0.*'x'.* is float64 \[1, 3\]"),
        ({"x": np.zeros((9, 4), np.float32), "ids": np.zeros(9, np.int64)}, r"'x'.* is float32 \[1, 4\]"),
        ({"x": np.full((9, 3), np.nan, np.float32), "ids": np.zeros(9, np.int64)}, "NaN or infinity"),
        ({"x": np.zeros((0, 3), np.float32), "ids": np.zeros(0, np.int64)}, "gives no inputs"),
        (rows(5), "were asked for the"),
        ({"x.0": np.zeros((1, 3), np.float32)}, "no array 'ids'"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_arrays("a.npz", GRAPH, COUNTS, 0, tmp_path, tmp_path / "data")


def test_what_is_no_npz(tmp_path):
    (tmp_path / "a.npz").write_text("no arrays", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        calls("a.npz", tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        calls("missing.npz", tmp_path)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("other = 1\n", UsageError, "no function 'inputs'"),
        ("def inputs(:\n", UnsupportedModelError, r"made\.py:1"),
        ("def inputs():\n    yield 1 / 0\n", UnsupportedModelError, r"made\.py:2: ZeroDivisionError"),
        ("def inputs():\n    yield 7\n", DataError, "inputs gives int"),
    ],
)
def test_generators_that_fail(tmp_path, code, kind, message):
    (tmp_path / "made.py").write_text(code, encoding="utf-8")
    with pytest.raises(kind, match=message):
        calls("made.py:inputs", tmp_path)
