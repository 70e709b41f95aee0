from collections.abc import Callable

import pytest

from edgelr.artifacts import Package
from edgelr.errors import UsageError
from edgelr.recipe.schema import Validation
from edgelr.timing.lengths import shape_text, usable_lengths


def test_a_shape_says_its_unit() -> None:
    assert shape_text(128) == "1 x 128 tokens"
    assert shape_text(5, "s") == "1 x 5 s"


def test_lengths_are_what_the_package_takes(
    make_package: Callable[..., Package], dense_speech: Package
) -> None:
    package = make_package()
    wanted = Validation.model_validate({"tokens": (64, 4, 16), "audio_s": (5, 2)})
    assert usable_lengths(package, wanted) == (
        [4, 16],
        ["not timed: 64 tokens; the package cuts at 32"],
    )
    assert usable_lengths(dense_speech, wanted) == ([2, 5], []), "seconds; longer ones are several windows"
    with pytest.raises(UsageError, match=r"validate\.tokens: 64 all exceed the package's 32 tokens"):
        usable_lengths(package, Validation.model_validate({"tokens": (64,)}))
