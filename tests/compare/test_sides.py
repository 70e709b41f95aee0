import shutil

import pytest

from edgelr.compare.sides import common_inputs, open_side, same_content
from edgelr.errors import DamagedArtifactError, UsageError

SIZES = {"tokens": 128, "audio_s": 5}


def test_packages_are_timed_with_the_examples_of_the_base(package, cpu):
    base, candidate = (open_side(name, package.folder) for name in ("base", "candidate"))
    assert base.bytes == package.cost.bytes
    inputs = common_inputs(base, candidate, tokens=7, audio_s=5, sizes={})
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert len(inputs["input_ids"][0]) == 7
    assert base.parts == ()
    assert base.opening(cpu) == {
        "model": str(package.folder / "model.onnx"),
        "entries": {"session.intra_op.allow_spinning": "0"},
    }


def test_a_package_of_several_graphs_is_timed_as_a_whole(dense_translator, cpu):
    side = open_side("base", dense_translator.folder)
    assert set(side.graphs) == {"encoder", "decoder"}
    assert side.opening(cpu)["translation"] == str(dense_translator.folder)
    assert side.parts == ("first_token", "encoder", "decoder")
    longest = common_inputs(side, side, tokens=10_000, audio_s=5, sizes={})
    assert longest["new_tokens"] < 64, "no more than it may write"
    assert len(longest["input_ids"][0]) == longest["new_tokens"]


def test_sounds_are_so_many_seconds(dense_speech):
    side = open_side("base", dense_speech.folder)
    assert common_inputs(side, side, tokens=7, audio_s=2, sizes={}) == {"audio_s": 2}
    assert side.parts == ("features", "encoder", "decoder")


def test_graphs_are_timed_with_made_up_inputs(package):
    base = open_side("base", package.folder / "model.onnx")
    assert base.package is None
    assert base.bytes >= (package.folder / "model.onnx").stat().st_size
    (graph,) = base.graphs.values()
    axes = {axis for entry in graph.inputs for axis in entry.shape if isinstance(axis, str)}
    sizes = dict.fromkeys(axes, 3)
    inputs = common_inputs(base, base, **SIZES, sizes=sizes)
    assert inputs["input_ids"] == {"ones": [3, 3], "dtype": "int64"}
    mixed = common_inputs(open_side("candidate", package.folder), base, **SIZES, sizes=sizes)
    assert mixed == inputs


def test_an_open_size_is_named(package):
    base = open_side("base", package.folder / "model.onnx")
    with pytest.raises(UsageError, match="the size of axis 'batch' is open"):
        common_inputs(base, base, **SIZES, sizes={})
    with pytest.raises(UsageError, match=r"--shape heads: no input has an axis of that name"):
        common_inputs(base, base, **SIZES, sizes={"heads": 3})


def test_sides_that_do_different_things(package, one_layer, dense_translator):
    file = open_side("base", package.folder / "model.onnx")
    with pytest.raises(UsageError, match="take different inputs: attention_mask, input_ids, x"):
        common_inputs(file, open_side("candidate", one_layer(1)), **SIZES, sizes={})
    one, other = open_side("base", package.folder), open_side("candidate", dense_translator.folder)
    with pytest.raises(
        UsageError, match="base is a package for sentence-embedding, candidate one for translation"
    ):
        common_inputs(one, other, **SIZES, sizes={})
    with pytest.raises(UsageError, match="one side is a package of several graphs, the other a file"):
        common_inputs(file, other, **SIZES, sizes={})


def test_the_same_twice_is_seen(package, one_layer, tmp_path, make_package):
    one, copy = one_layer(1), one_layer(1, "copy.onnx")
    sides = {path: open_side("base", path) for path in (one, copy, one_layer(2))}
    assert same_content(sides[one], sides[one]) == "the same file"
    assert same_content(sides[one], sides[copy]) == "the same bytes"
    assert same_content(sides[one], sides[one_layer(2)]) is None
    folder = shutil.copytree(package.folder, tmp_path / "copy")
    base = open_side("base", package.folder)
    assert same_content(base, base) == "the same package"
    assert same_content(base, open_side("candidate", folder)) == "the same bytes"
    other = make_package("other", noise=0.1)
    assert same_content(base, open_side("candidate", other.folder)) is None
    assert same_content(base, sides[one]) is None


def test_what_is_neither_a_package_nor_a_graph(tmp_path):
    with pytest.raises(UsageError, match=r"base: .* is a folder without a package\.json"):
        open_side("base", tmp_path)
    with pytest.raises(UsageError, match=r"candidate: .* is not there"):
        open_side("candidate", tmp_path / "no.onnx")
    (tmp_path / "text.onnx").write_text("no graph", encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match=r"text\.onnx"):
        open_side("base", tmp_path / "text.onnx")


def test_of_a_package_with_variants_a_side_is_the_one_of_the_device(varied, cpu, npu):
    variant = open_side("base", varied.folder, npu)
    assert (variant.path, variant.package.precision) == (varied.folder / "npu", "a16w8")
    assert open_side("base", varied.folder, cpu).path == varied.folder
