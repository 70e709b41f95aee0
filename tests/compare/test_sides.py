import pytest

from edgelr.compare.sides import common_inputs, open_side
from edgelr.errors import DamagedArtifactError, UsageError


def test_packages_are_timed_with_the_examples_of_the_base(package):
    base, candidate = (open_side(name, package.folder) for name in ("base", "candidate"))
    assert base.bytes == package.cost.bytes
    inputs = common_inputs(base, candidate, 7, {})
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert len(inputs["input_ids"][0]) == 7


def test_graphs_are_timed_with_made_up_inputs(package):
    base = open_side("base", package.folder / "model.onnx")
    assert base.package is None
    assert base.bytes >= (package.folder / "model.onnx").stat().st_size
    axes = {axis for entry in base.graph.inputs for axis in entry.shape if isinstance(axis, str)}
    inputs = common_inputs(base, base, 7, dict.fromkeys(axes, 3))
    assert inputs["input_ids"] == {"ones": [3, 3], "dtype": "int64"}
    mixed = common_inputs(open_side("candidate", package.folder), base, 7, dict.fromkeys(axes, 3))
    assert mixed == inputs


def test_an_open_size_is_named(package):
    base = open_side("base", package.folder / "model.onnx")
    with pytest.raises(UsageError, match="the size of axis 'batch' is open"):
        common_inputs(base, base, 7, {})
    with pytest.raises(UsageError, match=r"--shape heads: no input has an axis of that name"):
        common_inputs(base, base, 7, {"heads": 3})


def test_sides_that_do_different_things(package, one_layer):
    base, other = open_side("base", package.folder / "model.onnx"), open_side("candidate", one_layer(1))
    with pytest.raises(UsageError, match="take different inputs: attention_mask, input_ids, x"):
        common_inputs(base, other, 7, {})


def test_what_is_neither_a_package_nor_a_graph(tmp_path):
    with pytest.raises(UsageError, match=r"base: .* is a folder without a package\.json"):
        open_side("base", tmp_path)
    with pytest.raises(UsageError, match=r"candidate: .* is not there"):
        open_side("candidate", tmp_path / "no.onnx")
    (tmp_path / "text.onnx").write_text("no graph", encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match=r"text\.onnx"):
        open_side("base", tmp_path / "text.onnx")
