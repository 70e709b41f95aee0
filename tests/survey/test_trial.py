import copy

import pytest
import torch
from torch import nn

from edgelr.structure import Form, Reduction
from edgelr.survey.sensitivity import SMALLEST_CHANGE
from edgelr.survey.statistics import gather
from edgelr.survey.trial import measure_change

CASES: list[tuple[Form, tuple[str, ...], int, int]] = [
    ("low-rank", ("0",), 1, 4),
    ("query-key", ("0", "1"), 1, 2),
    ("value-output", ("0", "1"), 1, 2),
]


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


@pytest.mark.parametrize(("form", "sites", "rank", "full"), CASES)
def test_the_change_is_that_of_the_reduction_and_the_model_is_as_before(form, sites, rank, full):
    model, x = chain(), torch.randn(8, 4)
    before, state, reference = list(model), copy.deepcopy(model.state_dict()), model(x).detach()
    batch = {"x": x}
    sums = gather(dict(model.named_children()), [batch], lambda b: model(b["x"]), curvature=False)

    def measured(rank: int) -> float:
        heads = 1 if form == "low-rank" else 2
        return measure_change(
            model,
            Reduction(form=form, sites=sites, rank=rank, heads=heads),
            sums.statistics(),
            "whitened",
            lambda: float((model(x) - reference).square().sum(1).mean()),
        )

    assert measured(rank) > 1e-3
    if form != "query-key":  # a chain is no attention: as query and key, its layers may turn
        assert measured(full) < 1e-9 + SMALLEST_CHANGE, "full size changes nothing but rounding"
    assert all(layer is old for layer, old in zip(model, before, strict=True))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_the_model_is_as_before_when_measuring_fails():
    model, x = chain(), torch.randn(8, 4)
    before = list(model)
    sums = gather(dict(model.named_children()), [{"x": x}], lambda b: model(b["x"]), curvature=False)
    reduction = Reduction(form="low-rank", sites=("0",), rank=1)

    def change() -> float:
        raise ValueError

    with pytest.raises(ValueError):
        measure_change(model, reduction, sums.statistics(), "whitened", change)
    assert all(layer is old for layer, old in zip(model, before, strict=True))


@pytest.mark.parametrize("value", [0.0, -1e-8])
def test_what_changes_nothing_has_some_worth(value):
    model, x = chain(), torch.randn(8, 4)
    sums = gather(dict(model.named_children()), [{"x": x}], lambda b: model(b["x"]), curvature=False)
    reduction = Reduction(form="low-rank", sites=("0",), rank=1)
    assert measure_change(model, reduction, sums.statistics(), "plain", lambda: value) == SMALLEST_CHANGE
