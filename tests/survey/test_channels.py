import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgelr.survey.channels import reorderable


class Block(nn.Module):
    """A feed-forward block with a residual; its hidden units are free, its outputs are not."""

    def __init__(self, *, gated: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 10, bias=bias), nn.Linear(10, 6, bias=bias)
        self.third = nn.Linear(6, 6, bias=bias)
        self.gate = nn.Parameter(torch.randn(10)) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.first(x))
        if self.gate is not None:
            hidden = hidden * self.gate  # something of the model's own, with an order
        return self.third(x + self.second(hidden))


def changes(model: nn.Module) -> Callable[[], float]:
    x = torch.randn(4, 6)
    with torch.no_grad():
        reference = model(x)

    def change() -> float:
        with torch.no_grad():
            return float((model(x) - reference).square().mean())

    return change


@pytest.mark.parametrize(
    ("gated", "bias", "free"), [(False, True, True), (False, False, True), (True, True, False)]
)
def test_hidden_units_are_free_unless_something_knows_their_order(gated, bias, free):
    torch.manual_seed(0)
    model = Block(gated=gated, bias=bias)
    before = copy.deepcopy(model.state_dict())
    sites = {name: getattr(model, name) for name in ("first", "second", "third")}
    found = reorderable(model, sites, ["first", "second", "third"], changes(model), 1e-6)
    assert found == ({"first", "second"} if free else set())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_real_encoders_feed_forward_blocks_are_found(built):
    from edgelr.artifact_files import read_survey

    (manifest,) = (built / ".store" / "survey").glob("*/manifest.json")
    free = {site.name for site in read_survey(manifest.parent).sites if site.pivotable}
    layers = [f"transformer.encoder.layer.{layer}" for layer in (0, 1)]
    assert free == {f"{layer}.{name}.dense" for layer in layers for name in ("intermediate", "output")}
