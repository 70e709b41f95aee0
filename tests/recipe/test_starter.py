"""The starter recipe is a good recipe with everything in it."""

import re
from pathlib import Path

import pytest

from edgelr.errors import StorageError, UsageError
from edgelr.recipe.load import load_recipe
from edgelr.recipe.schema import Recipe
from edgelr.recipe.starter import name_of, starter_recipe, write_starter


def test_it_loads_without_faults(tmp_path):
    file = tmp_path / "My Search.yaml"
    write_starter(file)
    assert load_recipe(file).name == "my-search"


def test_every_section_is_there_and_explained():
    text = starter_recipe("a")
    for key, field in Recipe.model_fields.items():
        assert re.search(rf"^{field.alias or key}:", text, re.MULTILINE), key
    assert sum("#" in line for line in text.splitlines()) >= 30
    assert max(len(line) for line in text.splitlines()) <= 110


def test_what_is_commented_out_is_valid_too(tmp_path):
    text = starter_recipe("a").replace("  # revision:", "  revision:")
    start = text.index("  data:\n")
    end = text.index("  # data:\n")
    text = text[:start] + text[end:].replace("  # data:", "  data:").replace("  #   ", "    ")
    (tmp_path / "a.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "a.yaml")
    assert (recipe.task.data.source, recipe.model.revision) == ("file", "main")


@pytest.mark.parametrize("budget", ["latency", "quality"])
def test_the_other_budgets_are_valid_too(tmp_path, budget):
    lines = starter_recipe("a").replace("  keep: {parameters", "  # keep: {parameters")
    (tmp_path / "a.yaml").write_text(lines.replace(f"  # keep: {{{budget}", f"  keep: {{{budget}"))
    assert getattr(load_recipe(tmp_path / "a.yaml").compress.keep, budget) is not None


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.yaml", "a"),
        ("Docs Search.yaml", "docs-search"),
        ("__.yaml", "my-model"),
        ("é" * 90 + "x.yaml", "x"),
    ],
)
def test_names_from_files(file, name):
    assert name_of(Path(file)) == name


def test_a_long_file_name_gives_a_valid_name(tmp_path):
    file = tmp_path / f"{'a' * 63}-b.yaml"
    write_starter(file)
    assert load_recipe(file).name == "a" * 63 + "-"


def test_nothing_is_overwritten(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        write_starter(file)
    assert file.read_text() == "mine"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        write_starter(tmp_path / "file" / "a.yaml")
