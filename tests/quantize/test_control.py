import math

import pytest

from edgelr.errors import QuantizeError
from edgelr.quantize.choice import Choice
from edgelr.quantize.control import MOST_EVALUATIONS, Unit, control
from edgelr.recipe.quantize import Quantize


def section(value, scheme="int8-dynamic"):
    return Quantize.model_validate({"scheme": scheme, "max_drop": {"metric": "mrr@10", "value": value}})


def problem(losses, scheme="int8-dynamic"):
    """Layers that each cost a metric something, which adds up; a layer at 8 bits of 4 costs a tenth of it."""
    choices = {"model": {name: Choice(scheme=scheme) for name in losses}}
    units = [
        Unit(layers=(("model", name),), numbers=size, scheme=scheme, change=loss * 0.01)
        for name, (loss, size) in losses.items()
    ]

    def drop(choices):
        share = {scheme: 1.0, "weight-int8": 0.1, "fp32": 0.0}
        return sum(losses[name][0] * share[choice.scheme] for name, choice in choices["model"].items())

    return choices, units, drop


LOSSES = {f"layer.{number}": (2.0 ** -(number % 12), 100 + number) for number in range(37)}


@pytest.mark.parametrize("value", [0.0, 0.01, 0.1, 0.5, 1.0, 3.0])
def test_the_drop_is_met_within_the_evaluations(value):
    choices, units, drop = problem(LOSSES)
    found = control(choices, units, section(value), drop)
    assert found.drop == drop(found.choices) <= value
    assert found.without == drop(choices)
    assert found.evaluations <= MOST_EVALUATIONS
    kept = {name for name, choice in found.choices["model"].items() if choice.scheme == "fp32"}
    assert kept == {name for _, name in found.kept}
    assert all(found.choices["model"][name].reason == "kept by quantize.max_drop (mrr@10)" for name in kept)


def test_less_is_kept_where_more_may_be_lost():
    choices, units, drop = problem(LOSSES)
    kept = [len(control(choices, units, section(value), drop).kept) for value in (0.1, 0.5, 2.0, 6.0, 9.0)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1] == 0


def test_the_worst_for_its_bytes_comes_first():
    losses = {"large": (1.0, 1000), "small": (0.9, 10), "harmless": (0.01, 10)}
    choices, units, drop = problem(losses)
    assert control(choices, units, section(1.2), drop).kept == (("model", "small"),)


def test_what_is_not_needed_after_all_goes_back():
    """Its error looks large, and the metric does not care."""
    losses = {"loud": (0.0, 50), "worst": (1.0, 100), "other": (0.5, 100)}
    choices, units, drop = problem(losses)
    units[0] = Unit(layers=units[0].layers, numbers=50, scheme="int8-dynamic", change=9.0)
    assert control(choices, units, section(0.5), drop).kept == (("model", "worst"),)


def test_four_bits_are_kept_at_eight_where_that_does():
    choices, units, drop = problem(LOSSES, "weight-int4")
    found = control(choices, units, section(1.5, "weight-int4"), drop)
    assert {found.choices["model"][name].scheme for _, name in found.kept} == {"weight-int8"}
    found = control(choices, units, section(0.0, "weight-int4"), drop)
    assert {found.choices["model"][name].scheme for _, name in found.kept} == {"fp32"}


def test_layers_of_one_matrix_stay_together():
    choices = {
        "encoder": {"embed": Choice(scheme="int8-dynamic")},
        "decoder": {"head": Choice(scheme="int8-dynamic")},
    }
    layers = (("encoder", "embed"), ("decoder", "head"))
    unit = Unit(layers=layers, numbers=10, scheme="int8-dynamic", change=1.0)
    found = control(choices, [unit], section(0.5), lambda c: float(c["decoder"]["head"].scheme != "fp32"))
    assert found.kept == unit.layers
    assert found.choices["encoder"]["embed"].scheme == "fp32"


def test_what_cannot_be_met_names_the_closest():
    choices, units, drop = problem({"a": (1.0, 10), "b": (2.0, 10)})
    with pytest.raises(
        QuantizeError, match=r"mrr@10 loses 0.25 at least, 0.1 is allowed: 3.25 with int8-dynamic"
    ):
        control(choices, units, section(0.1), lambda found: drop(found) + 0.25)
    with pytest.raises(QuantizeError, match="loses inf at least"):
        control(choices, units, section(0.1), lambda _: math.nan)
