import json
from collections.abc import Callable
from typing import Any

import pytest

from edgelr.artifacts import Survey
from edgelr.errors import UsageError
from edgelr.plan.planner import Planner, Storage, make_planner, reductions_of, storage_price, usable_groups
from edgelr.recipe.schema import Compress

Make = Callable[..., Survey]
SITE = 32 * 32


def settings(**values: Any) -> Compress:
    return Compress.model_validate_json(
        json.dumps({"keep": {"parameters": 0.6}, "rank_multiple": 4, **values})
    )


def planner(survey: Survey, **values: Any) -> Planner:
    price = storage_price(survey, "parameters", Storage(precision="fp32", pivoted=False))
    return make_planner(survey, settings(**values), price)


def test_groups_are_those_that_are_allowed_and_can_be_compared(attention: Make) -> None:
    survey = attention()

    def forms(**values: Any) -> list[str]:
        return [group.form for group in usable_groups(survey, settings(**values))]

    assert forms() == ["joint", "query-key", "value-output"]
    assert forms(groups=["value-output"]) == ["value-output"]
    assert forms(allocate="energy") == ["joint"]
    assert forms(allocate="uniform") == []


@pytest.mark.parametrize("allocate", ["sensitivity", "energy", "uniform"])
def test_the_least_is_what_can_be_solved(attention: Make, allocate: str) -> None:
    made = planner(attention(), allocate=allocate)
    assert made.dense == 5 * SITE
    assert sum(option.cost for option in made.solve(made.least)) == made.least
    assert made.solve(made.least_share * made.dense)
    with pytest.raises(UsageError, match="leaves no rank"):
        made.solve(made.least - 1)


def test_the_change_is_that_of_what_is_done(attention: Make) -> None:
    made = planner(attention())
    few, many = made.solve(0.4 * made.dense), made.solve(0.8 * made.dense)
    assert made.change(few) > made.change(many) > 0
    assert made.change(made.solve(made.dense)) == 0
    assert reductions_of(made.solve(made.dense)) == []
    assert len(reductions_of(few)) > 1
