import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgelr.artifacts import Package
from edgelr.errors import UnsupportedModelError
from edgelr.kinds.kind import _MODULES, Kind, kind_of
from edgelr.metrics import METRICS

Make = Callable[..., Package]
FUNCTIONS = [name for name, value in vars(Kind).items() if inspect.isfunction(value) and name[0] != "_"]


@pytest.mark.parametrize("task", sorted(_MODULES))
def test_a_kind_has_every_function_with_its_parameters(make_package: Make, task: str) -> None:
    kind = kind_of(replace(make_package(), task=task))
    for name in FUNCTIONS:
        wanted = list(inspect.signature(getattr(Kind, name)).parameters)[1:]
        assert list(inspect.signature(getattr(kind, name)).parameters) == wanted, name
    assert all(hasattr(kind, name) for name in Kind.__annotations__)


def test_every_task_that_can_be_scored_has_its_kind() -> None:
    assert set(_MODULES) == set(METRICS)


def test_an_unknown_task_is_named(make_package: Make) -> None:
    with pytest.raises(UnsupportedModelError, match="the task 'vision' is unknown"):
        kind_of(replace(make_package(), task="vision"))
