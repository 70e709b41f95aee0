"""A recipe from its file: all faults at once, paths, hashes, and the schema for editors."""

import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from edgelr.errors import UsageError
from edgelr.recipe.load import data_path, fault, json_schema, load_recipe, recipe_hash
from edgelr.recipe.schema import Recipe

RECIPES = Path(__file__).parents[2] / "recipes"
GOOD = """\
edgelr: 1
name: a
task:
  type: sentence-embedding
  data: {source: file, path: pairs.jsonl}
model:
  path: m
compress: {keep: {parameters: 0.5}}
validate:
  gates:
    - {metric: cosine, min: 0.9}
"""


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_recipe_is_typed_frozen_and_complete(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert isinstance(recipe, Recipe)
    assert recipe.compress.keep.share == ("parameters", 0.5)
    assert recipe.validation.devices == ("cpu-1t",)
    assert recipe.finetune is None


def test_faults_of_schema_and_agreement_come_together(tmp_path):
    text = GOOD.replace("keep: {parameters: 0.5}", "keep: {parametrs: 0.5}").replace("cosine", "cosin")
    text += "  devices: [cpu1t]\n  devices: [cpu-1t]\n"
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, text))
    assert caught.value.exit_code == 2
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "a.yaml:8: compress.keep.parametrs: unknown key; did you mean 'parameters'?",
        "a.yaml:11: validate.gates[0].metric: unknown metric 'cosin'; did you mean 'cosine'?",
        "a.yaml:12: validate.devices[0]: unknown device 'cpu1t'; did you mean 'cpu-1t'?",
        "a.yaml:13: validate.devices: given twice; the first is in line 12",
    ]


def test_an_otherwise_good_recipe_with_a_key_twice_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"a\.yaml:12: name: given twice; the first is in line 2"):
        load_recipe(write(tmp_path, GOOD + "name: a\n"))


def test_devices_next_to_the_recipe_are_known(tmp_path):
    text = GOOD + "  devices: [phone]\n"
    with pytest.raises(UsageError, match=r"unknown device 'phone'; known: .*cpu-1t, cpu-4t, cpu-all"):
        load_recipe(write(tmp_path, text))
    assert load_recipe(write(tmp_path, text), known_devices=["phone"]).validation.devices == ("phone",)
    profile = "edgelr: 1\nname: phone\ntitle: P\nprovider: CPUExecutionProvider\nevidence: run\n"
    (tmp_path / "devices").mkdir()
    write(tmp_path / "devices", profile, "phone.yaml")
    assert load_recipe(write(tmp_path, text)).validation.devices == ("phone",)


def test_the_hash_is_of_the_meaning(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    moved = GOOD.replace("edgelr: 1\n", "") + "edgelr: 1  # moved\nseed: 0\n"
    assert recipe_hash(load_recipe(write(tmp_path, moved))) == recipe_hash(recipe)
    whole = load_recipe(write(tmp_path, GOOD.replace("0.5", "1")))
    assert recipe_hash(whole) == recipe_hash(load_recipe(write(tmp_path, GOOD.replace("0.5", "1.0"))))
    assert recipe_hash(whole) != recipe_hash(recipe)
    assert len(recipe_hash(recipe)) == 64


def test_what_a_recipe_says_reads_back_the_same(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert Recipe.model_validate_json(recipe.model_dump_json(by_alias=True)) == recipe


def test_paths_are_relative_to_the_recipe(tmp_path):
    assert data_path(tmp_path / "r" / "a.yaml", "pairs.jsonl") == (tmp_path / "r" / "pairs.jsonl").resolve()
    assert data_path(tmp_path / "a.yaml", "/data/x") == Path("/data/x")


def test_a_later_stage_can_name_the_line(tmp_path):
    path = write(tmp_path, GOOD)
    assert str(fault(path, "model.path", "is gone")) == f"{path}:7: model.path: is gone"
    assert str(fault(path, "model.revision", "is gone")) == f"{path}:6: model.revision: is gone"
    assert (
        str(fault(path, "validate.gates[0].min", "too high")) == f"{path}:11: validate.gates[0].min: too high"
    )
    path.unlink()
    assert str(fault(path, "model.path", "is gone")) == f"{path}: model.path: is gone"


def test_the_schema_is_for_editors():
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert "validate" in schema["properties"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Finetune"]["properties"]["steps"]["description"] == "optimizer steps, at most"


def checked_by_an_editor(text: str) -> list[str]:
    return [
        each.message for each in Draft202012Validator(json_schema()).iter_errors(YAML(typ="safe").load(text))
    ]


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_as_the_schema_says(recipe: Path):
    assert checked_by_an_editor(recipe.read_text(encoding="utf-8")) == []


def test_only_a_module_of_ones_own_needs_no_model():
    model = "model:\n  path: m\n"
    assert checked_by_an_editor(GOOD) == []
    assert checked_by_an_editor(GOOD.replace(model, "")) == ["'model' is a required property"]
    own = "  type: custom\n  module: mine.py:Net\n"
    text = GOOD.replace("  type: sentence-embedding\n  data: {source: file, path: pairs.jsonl}\n", own)
    assert checked_by_an_editor(text.replace(model, "")) == []


def test_loading_needs_neither_torch_nor_onnxruntime(tmp_path):
    path = write(tmp_path, GOOD)
    program = (
        "import sys; from pathlib import Path; from edgelr.recipe.load import load_recipe; "
        f"load_recipe(Path({str(path)!r})); "
        "print(sorted({'torch', 'transformers', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
