import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelr.artifacts import Survey
from edgelr.errors import UsageError
from edgelr.plan.kernels import KernelTimes
from edgelr.plan.latency import LatencyBudget, kernels_to_time, latency_budget, latency_price
from edgelr.structure import Reduction
from edgelr.timing.kernel_graph import Attention, Kernel, Timed

times_ms = st.floats(0.01, 1000.0)


def budget(model_ms: float, dense_ms: float, speedup: float, fastest_ms: float = 0.0) -> LatencyBudget:
    return latency_budget(
        device="cpu-1t", model_ms=model_ms, dense_ms=dense_ms, fastest_ms=fastest_ms, speedup=speedup
    )


def test_the_sites_pay_for_the_whole() -> None:
    assert budget(12.0, 9.0, speedup=1.5) == LatencyBudget(sites_ms=5.0, rest_ms=3.0, scale=1.0)


@given(times_ms, times_ms, st.floats(1.01, 10.0))
def test_spending_the_budget_gives_exactly_the_speedup(
    model_ms: float, dense_ms: float, speedup: float
) -> None:
    try:
        found = budget(model_ms, dense_ms, speedup)
    except UsageError:
        assert model_ms - dense_ms > model_ms / speedup * (1 - 1e-9), "the rest alone is slower"
        return
    assert found.predicted_ms(found.sites_ms) == pytest.approx(model_ms / speedup, rel=1e-6)
    assert found.predicted_ms(dense_ms) == pytest.approx(model_ms, rel=1e-6)


def test_kernels_slower_than_their_model_are_scaled_to_it() -> None:
    found = budget(10.0, 12.5, speedup=2.0)
    assert (found.scale, found.rest_ms) == (0.8, 0.0)
    assert found.sites_ms == pytest.approx(6.25), "half of what the table says is dense"
    assert found.predicted_ms(12.5) == pytest.approx(10.0)


def test_a_speedup_out_of_reach_says_what_is_possible() -> None:
    message = (
        "compress.keep.latency: a speedup of 3 is out of reach on cpu-1t: the dense model takes 12 ms, with "
        "the smallest ranks it would take 4.5 ms, 4 ms of them outside the layers that can be factored; "
        "the largest possible speedup here is 2.66"
    )
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        budget(12.0, 8.0, speedup=3.0, fastest_ms=0.5)
    assert caught.value.exit_code == 2
    assert "rank_multiple" in (caught.value.hint or "")


@given(times_ms, times_ms, st.floats(0.01, 0.9))
def test_what_is_said_to_be_possible_is(model_ms: float, dense_ms: float, share: float) -> None:
    fastest_ms = share * dense_ms
    with pytest.raises(UsageError) as caught:
        budget(model_ms, dense_ms, speedup=1e6, fastest_ms=fastest_ms)
    possible = float(caught.value.found.rsplit(" ", 1)[1])
    if possible > 1:
        assert budget(model_ms, dense_ms, possible, fastest_ms).sites_ms >= fastest_ms


def test_the_largest_possible_speedup_leaves_the_fastest_kernels() -> None:
    assert budget(12.0, 8.0, speedup=2.0, fastest_ms=2.0).sites_ms == pytest.approx(2.0)
    assert budget(0.3, 0.3, speedup=3.0, fastest_ms=0.1).sites_ms >= 0.1, "rounding does not refuse it"


def test_a_model_without_sites_cannot_become_faster() -> None:
    with pytest.raises(UsageError, match=r"the largest possible speedup here is 1\.00"):
        budget(12.0, 0.0, speedup=1.1)


# --- prices ----------------------------------------------------------------------------------------


def fake_ms(kernel: Timed) -> float:
    """A microsecond a channel of attention; of layers, a number told apart for each shape and rank."""
    if isinstance(kernel, Attention):
        return 0.001 * (10 * kernel.size + kernel.value_size)
    return kernel.parameters / 1000


def listed(survey: Survey, forms: tuple[str, ...] = ("joint", "query-key", "value-output")) -> list[Timed]:
    groups = [group for group in survey.groups if group.form in forms]
    return kernels_to_time({site.name: site for site in survey.sites}, groups, multiple=4)


def fake_times(survey: Survey) -> KernelTimes:
    times = {kernel: fake_ms(kernel) for kernel in listed(survey)}
    return KernelTimes(device="cpu-1t", precision="fp32", tokens=128, model_ms=20.0, kernels_ms=times)


def test_every_shape_is_timed_once(attention: Callable[..., Survey]) -> None:
    survey = attention()
    kernels = listed(survey)
    assert len(kernels) == len(set(kernels))
    layers = [kernel for kernel in kernels if isinstance(kernel, Kernel)]
    assert {kernel.outs for kernel in layers if kernel.rank is not None} == {(32,), (32, 32, 32)}
    assert Kernel(32, (32, 32, 32), 4) not in listed(survey, ("query-key",))
    assert listed(survey, ()) == listed(survey, ("joint",))[: len(listed(survey, ()))]
    heads = {kernel for kernel in kernels if isinstance(kernel, Attention)}
    sizes = range(2, 16, 2)
    assert heads == {Attention(2, 16, 16)} | {
        attention for size in sizes for attention in (Attention(2, size, 16), Attention(2, 16, size))
    }
    assert {Kernel(32, (2 * size,), None) for size in sizes} <= set(layers), "query, key and value"
    assert {Kernel(2 * size, (32,), None) for size in sizes} <= set(layers), "output"


def test_prices_are_the_kernels_that_a_reduction_leaves(attention: Callable[..., Survey]) -> None:
    survey = attention()
    sites = {site.name: site for site in survey.sites}
    price = latency_price(sites, survey.groups, fake_times(survey))

    def priced(form: str, names: str, rank: int, heads: int = 1) -> float:
        reduction = Reduction(form=form, sites=tuple(names), rank=rank, heads=heads)  # type: ignore[arg-type]
        return price([sites[name] for name in names], reduction)

    assert price([sites["q"], sites["k"]], None) == pytest.approx(2 * 1.024)
    assert priced("low-rank", "q", 8) == pytest.approx(fake_ms(Kernel(32, (32,), 8)))
    assert priced("joint", "qkv", 12) == pytest.approx(fake_ms(Kernel(32, (32, 32, 32), 12)))
    assert priced("low-rank", "q", 16) == math.inf, "it saves no parameters: it was not timed"
    assert priced("query-key", "qk", 4, heads=2) == pytest.approx(2 * 0.256 - 0.01 * 12)
    assert priced("value-output", "vo", 4, heads=2) == pytest.approx(2 * 0.256 - 0.001 * 12)


def test_layers_that_run_more_often_cost_more(attention: Callable[..., Survey]) -> None:
    survey = attention()
    sites = {site.name: site for site in survey.sites}
    price = latency_price(sites, survey.groups, fake_times(survey))
    reductions = [
        None,
        Reduction(form="low-rank", sites=("q",), rank=8),
        Reduction(form="query-key", sites=("q", "k"), rank=4, heads=2),
    ]
    for reduction, calls in itertools.product(reductions, (2, 3)):
        names = ("q",) if reduction is None else reduction.sites
        often = [replace(sites[name], calls=calls) for name in names]
        assert price(often, reduction) == pytest.approx(
            calls * price([sites[name] for name in names], reduction)
        )
