from collections.abc import Callable
from dataclasses import replace

import pytest

from edgelr.artifacts import Package
from edgelr.errors import UnsupportedModelError
from edgelr.runtime.text import package_tokenizer
from edgelr.timing.inputs import package_inputs, tokens_of_length

Make = Callable[..., Package]


def test_inputs_have_exactly_the_length_asked_for(make_package: Make) -> None:
    tokenizer = package_tokenizer(make_package())
    whole = tokenizer.encode("copy a file").ids
    for tokens in (1, len(whole), 3 * len(whole) + 1):
        inputs = tokens_of_length(tokenizer, ["copy a file"], tokens)
        assert inputs["input_ids"] == [(whole * 4)[:tokens]]
        assert inputs["attention_mask"] == [[1] * tokens]
    both = tokens_of_length(tokenizer, ["copy", "delete a file"], 7)["input_ids"][0]
    assert both[:3] == tokenizer.encode("copy").ids
    assert both[3:] == tokenizer.encode("delete a file").ids[:4]


def test_the_text_of_a_package_is_its_own(make_package: Make) -> None:
    package = make_package()
    inputs = package_inputs(package, 5)
    start = package_tokenizer(package).encode("Copy data and mode bits").ids[:5]
    assert inputs == {"input_ids": [start], "attention_mask": [[1] * 5]}


def test_an_unknown_task_is_named(make_package: Make) -> None:
    with pytest.raises(UnsupportedModelError, match="the task 'translation' is unknown"):
        package_inputs(replace(make_package(), task="translation"), 4)
