import copy

import pytest
import torch
from torch import Tensor, nn

from edgelr.compress.refine import refine
from edgelr.errors import DataError
from edgelr.lowrank.kinds import low_rank_like
from edgelr.lowrank.layers import IntoHeads, LowRankLinear, OutOfHeads
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.svd import decompose
from edgelr.progress import Progress

EMPHASIS = {"0": 1.0, "2": 1.0}


def statistics(inputs: dict[str, str]) -> Statistics:
    return Statistics(inputs=inputs, grams={}, sums={}, curvatures={})


def run(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(batch["x"])


@pytest.fixture
def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 6)).eval()


@pytest.fixture
def batches() -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    return [{"x": torch.randn(64, 12) + 0.5} for _ in range(4)]


def factored(dense: nn.Module, rank: int) -> nn.Module:
    model = copy.deepcopy(dense)
    for place in (0, 2):
        weight = model[place].weight.detach().double().numpy()
        model[place] = low_rank_like(model[place], decompose(weight).truncated(min(rank, *weight.shape)))
    return model


def error(model: nn.Module, dense: nn.Module, batches: list[dict[str, Tensor]]) -> float:
    with torch.no_grad():
        return sum(float((run(model, batch) - run(dense, batch)).square().mean()) for batch in batches)


def test_the_output_comes_closer_to_the_dense_models(dense, batches):
    model = factored(dense, 4)
    before = error(model, dense, batches)
    refine(model, dense, statistics({"0": "0", "2": "2"}), EMPHASIS, batches, run, Progress(quiet=True))
    assert error(model, dense, batches) < 0.7 * before
    assert isinstance(model[0], LowRankLinear)
    assert model[0].rank == 4


def test_full_rank_stays_what_it_is(dense, batches):
    model = factored(dense, 99)
    refine(model, dense, statistics({"0": "0", "2": "2"}), EMPHASIS, batches, run, Progress(quiet=True))
    torch.testing.assert_close(run(model, batches[0]), run(dense, batches[0]), atol=1e-4, rtol=1e-4)


def test_a_dense_layer_makes_up_for_the_one_before_it(dense, batches):
    model = copy.deepcopy(dense)
    model[0] = low_rank_like(model[0], decompose(model[0].weight.detach().double().numpy()).truncated(4))
    before = error(model, dense, batches)
    refine(model, dense, statistics({"2": "2"}), EMPHASIS, batches, run, Progress(quiet=True))
    assert error(model, dense, batches) < before


def test_layers_that_share_down_still_do(batches):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(12, 8), nn.Linear(12, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + 2 * self.b(x)

    torch.manual_seed(0)
    dense = Two().eval()
    model = copy.deepcopy(dense)
    for name in ("a", "b"):
        layer = getattr(model, name)
        setattr(
            model, name, low_rank_like(layer, decompose(layer.weight.detach().double().numpy()).truncated(3))
        )
    model.b.down = model.a.down
    before = error(model, dense, batches)
    emphasis = {"a": 1.0, "b": 4.0}
    refine(model, dense, statistics({"a": "a", "b": "a"}), emphasis, batches, run, Progress(quiet=True))
    assert model.b.down is model.a.down
    assert error(model, dense, batches) < before


def test_the_output_of_narrow_heads_is_fitted_and_what_feeds_them_is_not(batches):
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 5)).eval()
    into, out = IntoHeads(12, 2, 4, 3, bias=True), OutOfHeads(2, 4, 3, 5, bias=True)
    model = nn.Sequential(into, out).eval()
    weight = into.narrow.weight.detach().clone()
    refine(model, dense, statistics({"0": "0", "1": "1"}), EMPHASIS, batches, run, Progress(quiet=True))
    assert torch.equal(into.narrow.weight, weight)
    x = torch.cat([batch["x"] for batch in batches])
    with torch.no_grad():
        seen = torch.cat([into.narrow(x), torch.ones(len(x), 1)], 1)
        best = (seen @ torch.linalg.lstsq(seen, dense(x)).solution - dense(x)).square().sum()
        left = (model(x) - dense(x)).square().sum()
    assert float(left) == pytest.approx(float(best), rel=0.02)  # the ridge holds on a little


@pytest.mark.parametrize("bias", [True, False])
def test_inputs_that_are_all_zero_leave_the_weight_alone(bias):
    dense = nn.Sequential(nn.Linear(4, 3, bias=bias))
    model = copy.deepcopy(dense)
    zeros = [{"x": torch.zeros(8, 4)}]
    refine(model, dense, statistics({"0": "0"}), {"0": 1.0}, zeros, run, Progress(quiet=True))
    torch.testing.assert_close(model[0].weight, dense[0].weight)


def test_masked_positions_do_not_count(dense):
    torch.manual_seed(2)
    x = torch.randn(4, 6, 12)
    mask = torch.ones(4, 6, dtype=torch.int64)
    mask[:, 4:] = 0
    results = []
    for filler in (0.0, 1e3):
        model = factored(dense, 4)
        seen = [{"x": torch.where(mask[..., None] == 1, x, torch.tensor(filler)), "attention_mask": mask}]
        refine(model, dense, statistics({"0": "0", "2": "2"}), EMPHASIS, seen, run, Progress(quiet=True))
        results.append(model[2].weight.detach())
    torch.testing.assert_close(*results)


def test_values_that_are_not_finite_are_named(dense, batches):
    model = factored(dense, 4)
    bad = [{"x": torch.full((8, 12), float("nan"))}]
    with pytest.raises(DataError, match="'0' is not finite"):
        refine(model, dense, statistics({"0": "0"}), EMPHASIS, bad, run, Progress(quiet=True))
