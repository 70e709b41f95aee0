"""Sizes for hardware that wants them fixed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.runtime.shapes import SHAPES, fixed_sizes, shapes_setting


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


@pytest.mark.parametrize("text", ["tokens", "0", "1,x", ","])
def test_a_setting_that_says_no_sizes_is_damage(text: str, make_package: Callable[..., Package]) -> None:
    with pytest.raises(DamagedArtifactError, match=r"settings\.shapes"):
        fixed_sizes(sized(make_package(), text))
