"""Docstrings and the module that each belongs to."""

import pytest

from edgelr.errors import DataError
from edgelr.load.docstring_modules import collect, mask
from edgelr.load.rows import normalized
from edgelr.progress import Progress

QUIET = Progress(quiet=True)


def test_the_modules_with_most_docstrings_are_the_labels() -> None:
    found = collect(["click"], 3, QUIET)
    counts = {label: sum(each.label == label for each in found) for label in {each.label for each in found}}
    assert len(counts) == 3
    assert {"click.core", "click.types"} < set(counts)
    (least, *_) = sorted(counts.values())
    more = collect(["click"], 5, QUIET)
    assert set(found) <= set(more)
    assert all(
        sum(each.label == label for each in more) <= least for label in {e.label for e in more} - set(counts)
    )
    assert found == collect(["click"], 3, QUIET)


def test_no_text_is_there_twice_and_methods_are_of_their_class() -> None:
    found = collect(["click"], 4, QUIET)
    assert len({each.id for each in found}) == len({normalized(each.text) for each in found}) == len(found)
    (invoke,) = (each for each in found if each.id == "click.core.Context.invoke")
    (context,) = (each for each in found if each.id == "click.core.Context")
    assert invoke.group == context.group == "click.core.Context"
    assert invoke.label == "click.core"
    assert "invoke" not in invoke.text.casefold().split()
    assert not any(part.startswith("_") for each in found for part in each.label.split("."))


def test_whole_words_are_masked_whatever_their_case() -> None:
    assert mask("JSON, a json_file or json.", ("json", "a.b")) == "…, a json_file or …."


def test_too_many_modules() -> None:
    with pytest.raises(DataError, match=r"900 modules were asked for, and click have [0-9]+ with docstrings"):
        collect(["click"], 900, QUIET)
