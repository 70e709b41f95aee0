from pathlib import Path

import pytest

from edgelr.errors import MissingRequirementError
from edgelr.load.python_docs import chunks, collect, split_docstring
from edgelr.load.splits import split_by_group
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe
from edgelr.recipe.tasks import PythonDocs

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("docs-*.yaml"))


def test_a_package_gives_pairs_and_passages_without_duplicates():
    examples = collect(["click"], Progress(quiet=True))
    assert any(example.query for example in examples)
    assert len({example.id for example in examples}) == len(examples)
    passages = [example.passage.casefold() for example in examples]
    assert len(set(passages)) == len(passages)
    assert examples == collect(["click"], Progress(quiet=True))
    assert all(example.group.startswith("click") for example in examples)


def test_a_missing_package_is_named():
    with pytest.raises(MissingRequirementError, match="'no_such_package' is not installed"):
        collect(["no_such_package"], Progress(quiet=True))


def test_a_docstring_is_split_and_doctests_left_out():
    text = """Copy a file.

    The mode bits
    are kept.
    >>> copy("a", "b")
    ------
    """
    assert split_docstring(text) == ("Copy a file.", "The mode bits are kept.")


def test_chunks_are_cut_between_words():
    parts = chunks("word " * 100, longest=21)
    assert all(len(part) <= 21 and not part.endswith(" ") for part in parts)
    assert " ".join(parts).split() == ["word"] * 100


def test_the_recipes_hold_out_modules_that_have_a_source():
    """A module in C has no docstring to read: `math` once made the quickstart fail on its first step."""
    examples = collect(["stdlib"], Progress(quiet=True))
    counts = {"test": 50, "validation": 50, "calibration": 50, "train": 50}
    assert RECIPES
    for path in RECIPES:
        data = load_recipe(path).task.data
        assert isinstance(data, PythonDocs)
        splits = split_by_group(examples, counts, seed=0, hold_out=data.hold_out)
        assert {len(split) for split in splits.values()} == {50}
