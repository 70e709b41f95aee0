"""Every kind of schema fault, in plain words."""

# ruff: noqa: E501 - a message is one line, as the user sees it

import copy
import re
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pytest

from edgelr.recipe.faults import MAX_SHOWN, check_schema, did_you_mean, near_miss, usage_error
from edgelr.recipe.schema import Recipe
from edgelr.recipe.starter import starter_recipe
from edgelr.recipe.yaml_file import read_yaml
from edgelr.recipe.yaml_tree import Fault

GOOD = """\
edgelr: 1
name: a
task: {type: sentence-embedding, data: {source: python-docs}}
model: {path: m}
compress: {keep: {parameters: 0.5}}
"""


def rows(folder: Path, text: str) -> list[str]:
    path = folder / "a.yaml"
    path.write_text(text)
    value, faults = check_schema(Recipe, read_yaml(path, what="recipe"))
    assert (value is None) == bool(faults)
    return str(usage_error(Path("a.yaml"), faults)).splitlines() if faults else []


def test_a_good_file_has_no_faults(tmp_path):
    assert rows(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("more", "row"),
    [
        ("seeds: 1", "seeds: unknown key; did you mean 'seed'?"),
        ("export: {zzz: 1}", "export.zzz: unknown key; known here: opset, tolerance, pivot, drop_unused_tokens, operators, shapes, top, ort_format"),
        ("validation: {seconds: 1}", "validation: unknown key; did you mean 'validate'?"),
        ("finetune: {}", "finetune.steps: missing (optimizer steps, at most)"),
        ("finetune: {stpes: 1}", "finetune.stpes: unknown key; did you mean 'steps'?"),
        ("finetune: {steps: ten}", "finetune.steps: expected a whole number (optimizer steps, at most), found 'ten' (text)"),
        ("finetune: {steps: 1, batch: 1.5}", "finetune.batch: expected a whole number (texts a step), found 1.5 (number)"),
        ("finetune: {steps: true}", "finetune.steps: expected a whole number (optimizer steps, at most), found true (true or false)"),
        ("finetune: {steps: 0}", "finetune.steps: must be at least 1 (optimizer steps, at most), found 0"),
        ("finetune: {steps: 1, learning_rate: 1}", "finetune.learning_rate: must be less than 1, found 1"),
        ("finetune: {steps: 1, weight_decay: .inf}", "finetune.weight_decay: expected a finite number, found inf (number)"),
        ("finetune: 5", "finetune: expected a mapping (lines of 'key: value'), found 5 (whole number)"),
        ("export: {tolerance: x}", "export.tolerance: expected a number (largest difference of torch and ONNX outputs, of their largest number where that is > 1), found 'x' (text)"),
        ("quantize: {scheme: int8-dynamc}", "quantize.scheme: expected one of int8-dynamic, int8-static, a16w8, weight-int8, weight-int4, fp16, auto, found 'int8-dynamc' (text); did you mean 'int8-dynamic'?"),
        ("quantize: {}", "quantize.scheme: missing (int8-dynamic: int8 weights and activations; int8-static: likewise, calibrated; a16w8: 16-bit activations, for NPUs; weight-int8, weight-int4: blocks of weights with a scale each, for what is bound by bytes, such as decoding; fp16: half precision; auto: for each layer, whichever of these (but fp16 and a16w8) or fp32 is measured as fastest on the first device that can be timed)"),
        ("quantize: {scheme: fp16, layers: {'a.*': weight-int}}", "quantize.layers['a.*']: expected one of int8-dynamic, int8-static, a16w8, weight-int8, weight-int4, fp16, fp32, found 'weight-int' (text); did you mean 'weight-int8'?"),
        ("quantize: {scheme: fp16, max_drop: {metric: cosine}}", "quantize.max_drop.value: missing (what it may lose against the fp32 package)"),
        ("quantize: {scheme: int8-dynamic, vocabulary: int3}", "quantize.vocabulary: expected one of int8, int4, found 'int3' (text); did you mean 'int8'?"),
        ("validate: {devices: cpu-1t}", "validate.devices: expected a list (device profiles, see 'edgelr devices'), found 'cpu-1t' (text)"),
        ("validate: {devices: []}", "validate.devices: needs at least one element, found an empty list"),
        ("validate: {devices: [5]}", "validate.devices[0]: expected text, found 5 (whole number); put it in quotes"),
        ("validate: {baselines: [dense-fp16]}", "validate.baselines[0]: expected one of dense-fp32, dense-int8, found 'dense-fp16' (text); did you mean 'dense-fp32'?"),
        ("validate: {gates: [{latncy: p90_ms, max: 1}]}", "validate.gates[0]: one of the keys metric, size_mb, latency, placement is needed, found latncy, max; did you mean 'latency'?"),
        ("validate: {gates: [fast]}", "validate.gates[0]: expected a mapping (lines of 'key: value'), found 'fast' (text)"),
        ("validate: {gates: [{metric: cosine}]}", "validate.gates[0]: exactly one of max_drop, max_rise, min, max is needed"),
        ("validate: {gates: [{metric: cosine, minn: 1}]}", "validate.gates[0].minn: unknown key; did you mean 'min'?"),
        ("validate: {gates: [size_mb: {max: 0}]}", "validate.gates[0].size_mb.max: must be more than 0, found 0"),
        ("validate: {gates: [size_mb: {share: 1}]}", "validate.gates[0].size_mb: 'max_share_of' (a baseline) and 'share' (a number) go together"),
    ],
)  # fmt: skip
def test_one_fault_in_words(tmp_path, more, row):
    assert rows(tmp_path, GOOD + more) == [f"a.yaml:6: {row}"]


@pytest.mark.parametrize(
    ("old", "new", "row"),
    [
        ("edgelr: 1", "edgelr: 2", "1: edgelr: expected 1, found 2 (whole number)"),
        ("edgelr: 1\n", "", "1: edgelr: missing; write 'edgelr: 1'"),
        ("name: a", "name: A b", "2: name: expected a name (at most 64 lower-case letters, digits, '.', '_' and '-', the first a letter or digit), found 'A b' (text)"),
        ("sentence-embedding", "speech", "3: task.type: expected one of sentence-embedding, translation, automatic-speech-recognition, text-generation, onnx, recommendation, custom, text-classification, image-classification, token-classification, found 'speech' (text)"),
        ("python-docs", "fil", "3: task.data.source: expected one of python-docs, file, found 'fil' (text); did you mean 'file'?"),
        ("source: python-docs", "train: 5", "3: task.data.source: missing; one of python-docs, file"),
        ("{source: python-docs}", "[]", "3: task.data: expected a mapping (lines of 'key: value'), found a list"),
        ("{source: python-docs}", "{source: [1]}", "3: task.data.source: expected one of python-docs, file, found a list"),
        ("{path: m}", "{path: ''}", "4: model.path: must not be empty"),
        ("{path: m}", "{path: m, package: p, revision: r}", "4: model: 'package' and 'revision' exclude each other: a revision belongs to a hub id"),
        ("0.5", "45", "5: compress.keep.parameters: must be at most 1 (share of the sites' parameters to keep), found 45"),
        ("0.5", "0", "5: compress.keep.parameters: must be more than 0 (share of the sites' parameters to keep), found 0"),
        ("0.5", "0.5, macs: 0.5", "5: compress.keep: exactly one budget is needed (parameters, bytes, macs, latency or quality), found parameters and macs"),
        ("parameters: 0.5", "macs: 0.5, latency: {device: cpu-1t, speedup: 2.0}", "5: compress.keep: exactly one budget is needed (parameters, bytes, macs, latency or quality), found macs and latency"),
        ("parameters: 0.5", "latency: {device: cpu-1t, speedup: 1}", "5: compress.keep.latency.speedup: must be more than 1 (over the dense model at the recipe's precision, such as 1.5 for two thirds of its time), found 1"),
        ("parameters: 0.5", "latency: {speedup: 2.0}", "5: compress.keep.latency.device: missing (device profile whose kernels are timed, see 'edgelr devices')"),
        ("parameters: 0.5", "latency: {device: cpu-1t, speedup: 2.0, tokens: 0}", "5: compress.keep.latency.tokens: must be at least 1 (length of the one text that it holds for), found 0"),
        ("parameters: 0.5", "latency: {device: cpu-1t, speedp: 2.0}", "5: compress.keep.latency.speedp: unknown key; did you mean 'speedup'?"),
        ("parameters: 0.5", "latency: 2.0", "5: compress.keep.latency: expected a mapping (lines of 'key: value') (speedup of the whole model on a device), found 2 (number)"),
        ("parameters: 0.5", "", "5: compress.keep: exactly one budget is needed (parameters, bytes, macs, latency or quality), found none"),
    ],
)  # fmt: skip
def test_one_changed_line(tmp_path, old, new, row):
    assert rows(tmp_path, GOOD.replace(old, new)) == [f"a.yaml:{row}"]


def test_all_faults_come_at_once_in_the_order_of_the_file(tmp_path):
    text = (
        GOOD.replace("0.5", "2").replace("edgelr: 1", "edgelr: x")
        + "sed: 1\nname: b\nfinetune: {steps: [1]}\n"
    )
    assert [row.split(": ")[:2] for row in rows(tmp_path, text)] == [
        ["a.yaml:1", "edgelr"],
        ["a.yaml:5", "compress.keep.parameters"],
        ["a.yaml:6", "sed"],
        ["a.yaml:7", "name"],
        ["a.yaml:8", "finetune.steps"],
    ]


def test_a_list_of_wrong_elements_is_not_also_too_short(tmp_path):
    found = rows(tmp_path, GOOD + "validate: {tokens: [x]}")
    assert found == ["a.yaml:6: validate.tokens[0]: expected a whole number, found 'x' (text)"]


def test_a_thousand_faults_do_not_flood_the_screen():
    faults = [Fault(line=line, key=("a",), message="wrong") for line in range(1, MAX_SHOWN + 8)]
    message = str(usage_error(Path("a.yaml"), faults)).splitlines()
    assert (len(message), message[-1]) == (MAX_SHOWN + 1, "a.yaml: and 7 more faults")


def test_near_misses():
    assert near_miss("parametrs", ["parameters", "bytes"]) == "parameters"
    assert near_miss("Whitened", ["plain", "whitened"]) == "whitened"
    assert near_miss("val", ["validate"]) == "validate"
    assert near_miss("zzz", ["validate"]) is None
    assert near_miss(5, ["5"]) is None
    assert did_you_mean("zzz", ["validate"]) == ""


def test_no_wrong_value_anywhere_brings_out_the_validators_own_words(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(starter_recipe("a"))
    file = read_yaml(path, what="recipe")
    keys = [key for key in file.lines if key]
    assert len(keys) > 50
    for key in keys:
        for wrong in (None, True, -1, 5, 1.5, float("nan"), "x", "", [], [None], {}, {"x": 1}):
            value = copy.deepcopy(file.value)
            around = reduce(lambda found, part: found[part], key[:-1], value)
            around[key[-1]] = wrong
            _, faults = check_schema(Recipe, replace(file, value=value))
            for fault in faults:
                assert fault.key[: len(key)] == key or fault.key == key[: len(fault.key)], (key, wrong, fault)
                assert not re.search(r"Input|should|valid |pydantic|Error", fault.message), (
                    key,
                    wrong,
                    fault,
                )
