import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_modules import write_module
from safetensors.torch import load_file, save_file

from edgelr.errors import DataError, EdgelrError, UnsupportedModelError, UsageError
from edgelr.load.own_module import load_own, own_fingerprint
from edgelr.own_code import own_function
from edgelr.recipe.custom import Custom
from edgelr.runtime.calls import read_calls

COUNTS = {"train": 20, "calibration": 8, "validation": 500, "test": 5}


def load(folder: Path, *, weights: str | None = None, seed: int = 0, out: str = "out", **file: Any) -> Any:
    write_module(folder / "net.py", **file)
    settings = Custom.model_validate({"type": "custom", "module": "net.py:build", "weights": weights})
    return load_own(settings, COUNTS, seed, folder, folder / out)  # type: ignore[arg-type]


def known(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "model" / "own.json").read_text())


def test_rows_are_taken_until_there_are_enough(tmp_path: Path) -> None:
    splits = load(tmp_path)
    assert {split: len(rows) for split, rows in splits.items()} == {**COUNTS, "validation": 128}
    rows = read_calls(tmp_path / "out" / "data", splits["train"])
    assert all(row["x"].shape == (1, 6) and row["label"].shape == (1,) for row in rows)
    batch = next(iter(own_function(f"{tmp_path / 'net.py'}:batches")("train")))
    np.testing.assert_array_equal(np.concatenate([row["x"] for row in rows[:16]]), batch["x"].numpy())


def test_what_is_called_how_is_written_down(tmp_path: Path) -> None:
    load(tmp_path)
    found = known(tmp_path)
    assert found["module"] == f"{tmp_path / 'net.py'}:build"
    assert (found["inputs"], found["outputs"]) == (["x"], ["output"])
    assert found["axes"] == {"x": {"0": "batch"}}


@pytest.mark.parametrize(
    ("file", "inputs", "outputs"),
    [
        ({"result": "{'a': hidden, 'logits': self.last(hidden)}"}, ["x"], ["a", "logits"]),
        ({"result": "(self.last(hidden), hidden.argmax(1))"}, ["x"], ["output_0", "output_1"]),
        ({"inputs": "*, x, label=None"}, ["x", "label"], ["output"]),
        ({"inputs": "x, other=None"}, ["x"], ["output"]),
        ({"inputs": "**all", "read": "all['x']", "more": "inputs = ['x']"}, ["x"], ["output"]),
    ],
    ids=["dict", "tuple", "keyword only", "with a default", "any keyword"],
)
def test_any_way_to_be_called_and_to_answer(
    tmp_path: Path, file: dict[str, str], inputs: list[str], outputs: list[str]
) -> None:
    load(tmp_path, **file)
    assert (known(tmp_path)["inputs"], known(tmp_path)["outputs"]) == (inputs, outputs)


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ({"result": "hidden +"}, UnsupportedModelError, r"net.py:14: invalid syntax: return hidden \+"),
        ({"result": "hidden @ x"}, UnsupportedModelError, r"net.py:14: RuntimeError: mat1 and mat2"),
        ({"result": "(hidden, (hidden, hidden))"}, UnsupportedModelError, "returns a tuple as 'output_1'"),
        ({"result": "{'y': hidden, 'n': 3}"}, UnsupportedModelError, "returns a int as 'n'"),
        ({"result": "'text'"}, UnsupportedModelError, "returns a str"),
        ({"result": "{}"}, UnsupportedModelError, "returns nothing"),
        (
            {"result": "hidden.mean()"},
            UnsupportedModelError,
            r"for 2 rows, output 'output' has the shape \[\]",
        ),
        ({"result": "hidden.argmax(1)"}, UnsupportedModelError, "no output is a floating-point number"),
        ({"inputs": "x, mask"}, UsageError, r"wants 'mask', and a batch has label, x"),
        ({"inputs": "*x", "read": "x[0]"}, UsageError, "no parameter that is named in a batch"),
        ({"more": "inputs = ['y']"}, UsageError, "inputs names 'y', and a batch has label, x"),
        ({"more": "dynamic_axes = {'y': {1: 'n'}}"}, UsageError, "dynamic_axes names 'y', the inputs are x"),
        ({"change": ("return Net()", "return 3")}, UnsupportedModelError, "returns a int"),
        ({"change": ("def batches", "def other")}, UsageError, "no function 'batches'"),
        ({"change": ("range(8)", "range(0)")}, DataError, r"batches\('train'\) gives no rows"),
        (
            {"change": ('"x": x,', '"x": x[1:],')},
            DataError,
            r"batch 0 of train has x \[15, 6\], label \[16\]",
        ),
        ({"change": ('"x": x,', '"x": x / 0,')}, DataError, "'x' has NaN or infinity"),
        ({"change": ('"x": x,', '"x": "text",')}, DataError, "'x' is no tensor"),
        ({"change": ("yield {", "yield 1, {")}, DataError, "batch 0 of train is a tuple"),
    ],
)
def test_bad_files_are_named(
    tmp_path: Path, file: dict[str, Any], error: type[EdgelrError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(tmp_path, **file)


def test_weights_are_those_of_the_file_that_is_named(tmp_path: Path) -> None:
    write_module(tmp_path / "net.py")
    state = own_function(f"{tmp_path / 'net.py'}:build")().state_dict()
    save_file(state, tmp_path / "net.safetensors")
    torch.save(state, tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        load(tmp_path, weights=name, out=name + ".out")
        kept = load_file(tmp_path / (name + ".out") / "model" / "weights.safetensors")
        assert all(torch.equal(kept[each], state[each]) for each in state)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "net.safetensors")
    (tmp_path / "net.pt").write_text("no weights")
    for name in ("net.safetensors", "net.pt"):
        with pytest.raises(UnsupportedModelError, match=f"{name} does not fit the module"):
            load(tmp_path, weights=name, out=name + ".out")
    with pytest.raises(UsageError, match=r"task.weights: .*absent.pt does not exist"):
        load(tmp_path, weights="absent.pt", out="absent")


def test_it_is_trained_once_where_the_file_can(tmp_path: Path) -> None:
    train = "def train(module):\n    nn.init.constant_(module.last.bias, 7.0)\n"
    load(tmp_path, more=train)
    kept = load_file(tmp_path / "out" / "model" / "weights.safetensors")
    assert kept["last.bias"].tolist() == [7.0] * 3


def test_the_same_seed_gives_the_same_weights_anywhere(tmp_path: Path) -> None:
    found = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / place).mkdir()
        load(tmp_path / place, seed=seed)
        found.append(own_fingerprint(tmp_path / place / "out" / "model"))
    assert found[0] == found[1] != found[2]
