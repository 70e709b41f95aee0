import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from edgelr.artifacts import Survey
from edgelr.errors import UsageError
from edgelr.lowrank.reduce import restructure
from edgelr.plan.kernels import KernelTimes
from edgelr.plan.latency import kernels_to_time
from edgelr.plan.planner import Storage
from edgelr.plan.quality import FoundShare
from edgelr.plan.stage import CURVE, plan
from edgelr.recipe.schema import Compress
from edgelr.timing.kernel_graph import Attention, Timed

Make = Callable[..., Survey]
FP32 = Storage(precision="fp32", pivoted=False)
SITE = 32 * 32
FORMS = {"low-rank", "joint", "query-key", "value-output"}


def settings(**values) -> Compress:
    document = {"keep": {"parameters": 0.6}, "rank_multiple": 4, **values}
    return Compress.model_validate_json(json.dumps(document))


def test_the_sensitive_site_gets_more_within_the_budget(attention, tmp_path):
    chosen = plan(attention(lone=100.0), settings(groups=[]), FP32, tmp_path)
    kept = {site.name: site.kept_share for site in chosen.sites}
    assert kept["lone"] > kept["q"]
    assert chosen.kept_share <= 0.6
    assert chosen.candidate.parameters == 10_000 - 5 * SITE + round(chosen.kept_share * 5 * SITE)
    assert chosen.dense.parameters == 10_000


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
def test_costs_are_those_of_the_model_that_is_made(attention, tmp_path, keep):
    chosen = plan(attention(qk=0.1, vo=0.1), settings(keep={"parameters": keep}), FP32, tmp_path)
    model = nn.ModuleDict({site.name: nn.Linear(site.in_, site.out, bias=False) for site in chosen.sites})
    restructure(model, chosen.reductions)
    made = sum(parameter.numel() for parameter in model.parameters())
    assert chosen.candidate.parameters == 10_000 - 5 * SITE + made
    assert chosen.candidate.bytes == 4 * chosen.candidate.parameters
    assert chosen.candidate.macs == made
    assert chosen.kept_share == pytest.approx(made / (5 * SITE))
    assert chosen.kept_share <= keep


def test_rows_and_reductions_say_the_same(attention, tmp_path):
    chosen = plan(attention(qk=0.01, vo=0.01), settings(), FP32, tmp_path)
    doing = {name: reduction for reduction in chosen.reductions for name in reduction.sites}
    assert len(doing) == sum(len(reduction.sites) for reduction in chosen.reductions), "no site is in two"
    assert [site.name for site in chosen.sites] == ["q", "k", "v", "o", "lone"]
    for site in chosen.sites:
        if site.name not in doing:
            assert (site.form, site.rank, site.kept_share, site.expected_change) == ("dense", None, 1.0, 0.0)
        else:
            assert (site.form, site.rank) == (doing[site.name].form, doing[site.name].rank)
            assert 0 < site.error_share < 1
            assert site.kept_share < 1
    whole = {doing[site.name]: site.expected_change for site in chosen.sites if site.name in doing}
    assert chosen.predicted_loss == pytest.approx(sum(whole.values()))


@pytest.mark.parametrize(
    ("slopes", "form"),
    [
        ({"qk": 1e-4, "q": 10.0, "k": 10.0}, "query-key"),
        ({"vo": 1e-4, "v": 10.0, "o": 10.0}, "value-output"),
        ({"qk": 100.0, "vo": 100.0}, "joint"),
    ],
)
def test_every_form_is_chosen_where_it_is_the_best(attention, tmp_path, slopes, form):
    survey = attention(**slopes)
    chosen = plan(survey, settings(keep={"parameters": 0.5}), FP32, tmp_path)
    assert form in {reduction.form for reduction in chosen.reductions}
    others = sorted(FORMS - {form, "low-rank"})
    left = plan(survey, settings(keep={"parameters": 0.5}, groups=others), FP32, tmp_path)
    assert form not in {reduction.form for reduction in left.reductions}
    assert left.predicted_loss >= chosen.predicted_loss


def test_the_curve_falls_and_passes_through_the_plan(attention, tmp_path):
    chosen = plan(attention(), settings(keep={"parameters": 0.5}), FP32, tmp_path)
    shares = [share for share, _ in chosen.curve]
    assert shares == [share for share in CURVE if share in shares]
    assert all(less >= more for (_, less), (_, more) in pairwise(chosen.curve))
    assert dict(chosen.curve)[0.5] == pytest.approx(chosen.predicted_loss)
    assert chosen.curve[-1] == (1.0, 0.0)


def test_uniform_ignores_sensitivity_and_groups(attention, tmp_path):
    chosen = plan(attention(lone=100.0), settings(allocate="uniform"), FP32, tmp_path)
    assert len({site.rank for site in chosen.sites}) == 1
    assert {reduction.form for reduction in chosen.reductions} == {"low-rank"}


@pytest.mark.parametrize("budget", ["parameters", "bytes", "macs"])
@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_every_budget_is_kept(attention, tmp_path, budget, precision):
    storage = Storage(precision=precision, pivoted=False)
    chosen = plan(attention(), settings(keep={budget: 0.6}), storage, tmp_path)
    everything = plan(attention(), settings(keep={budget: 1.0}), storage, tmp_path)
    others = (10_000 - 5 * SITE) * (4 if precision == "fp32" else 1)
    rest = {"parameters": 10_000 - 5 * SITE, "bytes": others, "macs": 0}[budget]
    used, whole = (getattr(each.candidate, budget) - rest for each in (chosen, everything))
    assert used <= 0.6 * whole
    assert used > 0.4 * whole


def test_pivoted_factors_cost_less_so_that_less_is_lost(attention, tmp_path):
    survey = attention()
    free = tuple(replace(site, pivotable=True) for site in survey.sites)
    survey = replace(survey, sites=free)
    plain, pivoted = (
        plan(survey, settings(groups=[]), Storage(precision="fp32", pivoted=flag), tmp_path)
        for flag in (False, True)
    )
    assert pivoted.predicted_loss < plain.predicted_loss
    assert pivoted.kept_share <= 0.6


def test_everything_kept_leaves_everything_dense(attention, tmp_path):
    chosen = plan(attention(), settings(keep={"parameters": 1.0}), FP32, tmp_path)
    assert chosen.reductions == ()
    assert chosen.predicted_loss == 0
    assert chosen.candidate == chosen.dense


def test_a_share_that_leaves_no_rank_is_a_usage_error(attention, tmp_path):
    with pytest.raises(UsageError, match=r"compress\.keep: a share of 0\.01 leaves no rank"):
        plan(attention(), settings(keep={"parameters": 0.01}), FP32, tmp_path)


# --- budgets that were measured ---------------------------------------------------------------------


def fake_times(survey: Survey, rest_ms: float = 1.0, factored: float = 1.0) -> KernelTimes:
    """A layer takes a microsecond a parameter, ``factored`` as much when it has factors; then the rest."""

    def ms(kernel: Timed) -> float:
        if isinstance(kernel, Attention):
            return 0.01 * (kernel.size + kernel.value_size)
        return kernel.parameters / 1000 * (1.0 if kernel.rank is None else factored)

    kernels = kernels_to_time({site.name: site for site in survey.sites}, survey.groups, multiple=4)
    return KernelTimes(
        device="cpu-1t",
        precision="fp32",
        tokens=128,
        model_ms=rest_ms + 5 * SITE / 1000,
        kernels_ms={kernel: ms(kernel) for kernel in kernels},
    )


def faster(speedup: float, **values: Any) -> Compress:
    return settings(keep={"latency": {"device": "cpu-1t", "speedup": speedup}}, **values)


@pytest.mark.parametrize("speedup", [1.1, 1.5, 2.0])
def test_a_speedup_is_planned_from_kernel_times(attention: Make, tmp_path: Path, speedup: float) -> None:
    survey = attention(qk=0.01, vo=0.01)
    times = fake_times(survey)
    chosen = plan(survey, faster(speedup), FP32, tmp_path, times)
    assert chosen.found["dense_ms"] == times.model_ms
    assert chosen.found["planned_ms"] <= times.model_ms / speedup * (1 + 1e-9)
    assert speedup <= chosen.found["speedup"] * (1 + 1e-9)
    assert chosen.found["speedup"] < 1.15 * speedup, "no faster than it has to be"
    narrow = [each for each in chosen.reductions if each.form in ("query-key", "value-output")]
    saved_ms = sum(0.01 * (16 - each.rank) for each in narrow)
    layers_ms = chosen.kept_share * 5 * SITE / 1000
    assert chosen.found["planned_ms"] == pytest.approx(1.0 + layers_ms - saved_ms)


def test_more_speed_costs_more_quality(attention: Make, tmp_path: Path) -> None:
    survey = attention()
    losses = [
        plan(survey, faster(speedup), FP32, tmp_path, fake_times(survey)).predicted_loss
        for speedup in (1.1, 1.5, 2.0, 2.5)
    ]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


def test_factors_that_are_not_faster_are_never_chosen(attention: Make, tmp_path: Path) -> None:
    """As slow a runtime as dense ones have: only smaller heads are faster."""
    survey = attention(qk=100.0, vo=100.0)
    chosen = plan(survey, faster(1.3), FP32, tmp_path, fake_times(survey, factored=20.0))
    assert {reduction.form for reduction in chosen.reductions} <= {"query-key", "value-output"}
    assert chosen.reductions
    assert [share for share, _ in chosen.curve] == sorted(share for share, _ in chosen.curve)
    assert chosen.curve[-1] == (1.0, 0.0)


@pytest.mark.parametrize("allocate", ["sensitivity", "gradient", "energy", "uniform"])
def test_every_allocation_keeps_to_the_time(attention: Make, tmp_path: Path, allocate: str) -> None:
    survey = attention()
    chosen = plan(survey, faster(1.5, allocate=allocate), FP32, tmp_path, fake_times(survey))
    assert chosen.found["speedup"] >= 1.5 * (1 - 1e-9)


def test_a_speedup_out_of_reach_names_the_largest_and_that_can_be_had(
    attention: Make, tmp_path: Path
) -> None:
    survey = attention()
    times = fake_times(survey)
    with pytest.raises(
        UsageError, match=r"compress\.keep\.latency: a speedup of 50 is out of reach"
    ) as caught:
        plan(survey, faster(50.0), FP32, tmp_path, times)
    largest = float(caught.value.found.rsplit(" ", 1)[1])
    assert plan(survey, faster(largest), FP32, tmp_path, times).found["speedup"] >= largest


def test_a_quality_is_planned_at_the_share_that_was_found(attention: Make, tmp_path: Path) -> None:
    survey = attention()
    keep = {"quality": {"metric": "cosine", "max_drop": 0.05}}
    found = FoundShare(share=0.5, drop=0.04, probes=((0.5, 0.04),))
    chosen = plan(survey, settings(keep=keep), FP32, tmp_path, found)
    half = plan(survey, settings(keep={"parameters": 0.5}), FP32, tmp_path)
    assert chosen.reductions == half.reductions
    assert chosen.found == {"share": 0.5, "drop": 0.04}
    assert half.found == {}
