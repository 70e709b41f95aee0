from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from edgelr.artifacts import Cost, Plan, SitePlan


def test_the_ranks_of_a_plan_leave_out_what_stays_dense():
    sites = tuple(
        SitePlan(name=n, out=4, in_=4, rank=r, kept_share=1.0, error_share=0.0, sensitivity=1.0)
        for n, r in (("a", 2), ("b", None))
    )
    cost = Cost(parameters=1, bytes=4, macs=1)
    plan = Plan(folder=Path(), sites=sites, dense=cost, candidate=cost, kept_share=1.0, predicted_loss=0.0)
    assert plan.ranks == {"a": 2}
    with pytest.raises(FrozenInstanceError):
        plan.kept_share = 0.5
