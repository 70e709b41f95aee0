"""Sizes for hardware that wants them fixed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.runtime.shapes import SHAPES, fixed_sizes, shapes_setting, sizes_of_axes


def test_without_sizes_of_its_own_a_package_has_its_longest(make_package: Callable[..., Package]) -> None:
    package = make_package()
    assert fixed_sizes(package) == ({"batch": 1, "tokens": package.settings["max_tokens"]},)


def sized(package: Package, text: str) -> Package:
    return replace(package, settings={**package.settings, SHAPES: text})


def test_sizes_written_are_sizes_read(make_package: Callable[..., Package]) -> None:
    assert shapes_setting(()) == {}
    setting = shapes_setting((9, 4, 4))
    assert setting == {SHAPES: "4,9"}
    package = make_package()
    longest = package.settings["max_tokens"]
    assert longest > 9
    sizes = [entry["tokens"] for entry in fixed_sizes(sized(package, str(setting[SHAPES])))]
    assert sizes == [4, 9, longest], "a text of any length has a graph that takes it"


def test_a_size_that_no_text_has_is_left_out(make_package: Callable[..., Package]) -> None:
    package = make_package()
    assert fixed_sizes(sized(package, "100000")) == fixed_sizes(package)


def test_a_cache_under_a_mask_has_a_length_for_each_of_the_texts(
    masked_files: Path, translation_package: Package, reseal_translation: Callable[..., Package]
) -> None:
    package = reseal_translation(masked_files)
    longest = package.settings["max_tokens"]
    sizes = fixed_sizes(sized(package, "8"))
    assert [(each["source"], each["past"]) for each in sizes] == [(8, 32), (longest, 64)]
    wide = replace(package, settings={"max_tokens": 100})
    assert fixed_sizes(wide) == ({"batch": 1, "source": 100, "past": 128},)
    assert all("past" not in each for each in fixed_sizes(translation_package)), "its cache cannot be padded"


def test_a_graph_has_each_of_its_sizes_once() -> None:
    sizes = [{"batch": 1, "source": source, "past": past} for source in (8, 16) for past in (32, 64)]
    assert sizes_of_axes(sizes, ["batch", "source"]) == (
        {"batch": 1, "source": 8},
        {"batch": 1, "source": 16},
    )
    assert sizes_of_axes(sizes, ["past", "source", "batch"]) == tuple(sizes)


@pytest.mark.parametrize("text", ["tokens", "0", "1,x", ","])
def test_a_setting_that_says_no_sizes_is_damage(text: str, make_package: Callable[..., Package]) -> None:
    with pytest.raises(DamagedArtifactError, match=r"settings\.shapes"):
        fixed_sizes(sized(make_package(), text))
