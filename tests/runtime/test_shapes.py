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


def test_sizes_written_are_sizes_read(make_package: Callable[..., Package]) -> None:
    setting = shapes_setting({"tokens": (128, 32, 32), "other": (3,)})
    assert setting == "other=3 tokens=32,128"
    package = make_package()
    package = replace(package, settings={**package.settings, SHAPES: setting})
    assert fixed_sizes(package) == ({"batch": 1, "tokens": 32}, {"batch": 1, "tokens": 128})


@pytest.mark.parametrize("text", ["tokens", "tokens=", "tokens=0", "tokens=1,x", "=3"])
def test_a_setting_that_says_no_sizes_is_damage(text: str, make_package: Callable[..., Package]) -> None:
    package = make_package()
    package = replace(package, settings={**package.settings, SHAPES: text})
    with pytest.raises(DamagedArtifactError, match=r"settings\.shapes"):
        fixed_sizes(package)
