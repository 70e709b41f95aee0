import copy
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import edgelr
from edgelr.api import (
    compress,
    first_output,
    load_factored,
    plan,
    probe_relative_error,
    relative_error,
    save_factored,
    survey,
)
from edgelr.errors import UnsupportedModelError, UsageError


class Net(nn.Module):
    """A module of a user's own: two inputs by name, layers that some rank is enough for."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(24, 48)
        self.second = nn.Linear(48, 24)
        self.head = nn.Linear(24, 8)

    def forward(self, x: Tensor, scale: Tensor) -> tuple[Tensor]:
        hidden = torch.relu(self.first(x)) * scale
        return (self.head(torch.relu(self.second(input=hidden))),)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def batches() -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    mixing = torch.randn(6, 24)  # inputs of six dimensions
    return [{"x": torch.randn(32, 6) @ mixing, "scale": torch.ones(1)} for _ in range(4)]


def error(small: nn.Module, net: nn.Module, batches: list[dict[str, Tensor]]) -> float:
    with torch.no_grad():
        pairs = [(first_output(small, batch), first_output(net, batch)) for batch in batches]
    return float(torch.cat([relative_error(*pair) for pair in pairs]).mean())


def test_a_module_of_ones_own_is_compressed_saved_and_loaded(net, batches, tmp_path):
    before = copy.deepcopy(net.state_dict())
    surveyed = survey(net, batches, tmp_path / "survey")
    planned = plan(surveyed, tmp_path / "plan", keep=0.6, rank_multiple=2)
    small = compress(net, surveyed, planned)
    assert planned.kept_share <= 0.6
    assert error(small, net, batches) < 0.02
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    save_factored(small, tmp_path / "small", planned)
    again = edgelr.load_factored(tmp_path / "small", Net())
    assert torch.equal(first_output(again, batches[0]), first_output(small, batches[0]))


def test_refining_makes_it_better(net, batches, tmp_path):
    surveyed = survey(net, batches, tmp_path / "survey", factors="whitened")
    planned = plan(surveyed, tmp_path / "plan", keep=0.3, rank_multiple=2)
    rough = compress(net, surveyed, planned, factors="whitened")
    refined = compress(net, surveyed, planned, factors="whitened", refine_on=batches)
    assert error(refined, net, batches) < error(rough, net, batches)


def test_a_checkpoint_of_another_model_is_refused(net, batches, tmp_path):
    surveyed = survey(net, batches, tmp_path / "survey")
    planned = plan(surveyed, tmp_path / "plan", keep=0.6, rank_multiple=2)
    save_factored(compress(net, surveyed, planned), tmp_path / "small", planned)
    with pytest.raises(UnsupportedModelError, match="belongs to another model"):
        load_factored(tmp_path / "small", nn.Sequential(nn.Linear(4, 4)))


@pytest.mark.parametrize(("keep", "rank_multiple"), [(0.0, 2), (1.5, 2), (-1.0, 2), (0.5, 0)])
def test_values_out_of_range_are_usage_errors(net, batches, tmp_path, keep, rank_multiple):
    surveyed = survey(net, batches, tmp_path / "survey", factors="plain")
    with pytest.raises(UsageError, match=r"keep|rank_multiple"):
        plan(surveyed, tmp_path / "plan", keep=keep, rank_multiple=rank_multiple)


def test_no_calibration_data_is_a_usage_error(net, tmp_path):
    with pytest.raises(UsageError, match="at least one batch"):
        survey(net, [], tmp_path / "survey")


def test_the_probe_estimates_the_distance():
    """E[(gᵀδ)²] / 2 over probes is the distance of a small change δ."""
    torch.manual_seed(0)
    output = torch.randn(3, 5, requires_grad=True)
    change = 1e-2 * torch.randn(3, 5)
    squares = []
    for _ in range(4000):
        (gradient,) = torch.autograd.grad(probe_relative_error(output), output)
        squares.append((gradient * change).sum(1).square() / 2)
    found = torch.stack(squares).mean(0)
    torch.testing.assert_close(found, relative_error(output + change, output).detach(), rtol=0.1, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_goes_all_the_way_and_stays(net, batches, tmp_path, dtype):
    small_error = error(net, net, batches)
    net = net.to(dtype)
    batches = [{name: tensor.to(dtype) for name, tensor in batch.items()} for batch in batches]
    surveyed = survey(net, batches, tmp_path / "survey")
    planned = plan(surveyed, tmp_path / "plan", keep=0.6, rank_multiple=2)
    small = compress(net, surveyed, planned)
    assert {parameter.dtype for parameter in small.parameters()} == {dtype}
    assert small_error == 0 < error(small, net, batches) < 0.02
    save_factored(small, tmp_path / "small", planned)
    again = load_factored(tmp_path / "small", Net().to(dtype))
    assert torch.equal(first_output(again, batches[0]), first_output(small, batches[0]))


def test_attention_heads_are_found_in_half_precision(tmp_path):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False).eval().to(torch.bfloat16)
    batches = [{"input_ids": torch.randint(50, (4, 12))} for _ in range(2)]
    surveyed = survey(model, batches, tmp_path)
    forms = [group.form for group in surveyed.groups]
    assert forms.count("query-key") == forms.count("value-output") == 2


def test_without_measured_sensitivities_plans_go_by_gradients(net, batches, tmp_path):
    surveyed = survey(net, batches, tmp_path / "survey", sensitivity_batches=0)
    assert not surveyed.measured
    assert all(site.sensitivity.points == () for site in surveyed.sites)
    with pytest.raises(UsageError, match="the survey measured none"):
        plan(surveyed, tmp_path / "plan", keep=0.6, rank_multiple=2)
    planned = plan(surveyed, tmp_path / "plan", keep=0.6, rank_multiple=2, allocate="gradient")
    assert planned.predicted_loss is None
    assert planned.curve == ()
    assert error(compress(net, surveyed, planned), net, batches) < 0.02


def test_a_model_without_weights_is_refused(net, batches, tmp_path):
    with torch.device("meta"):
        empty = Net()
    with pytest.raises(UnsupportedModelError, match=r"'first\.weight' is on the meta device"):
        survey(empty, batches, tmp_path / "none")
    surveyed = survey(net, batches, tmp_path / "survey")
    planned = plan(surveyed, tmp_path / "plan", keep=0.6, rank_multiple=2)
    with pytest.raises(UnsupportedModelError, match=r"'first\.weight' is on the meta device"):
        compress(empty, surveyed, planned)


def test_replaced_layers_are_not_copied_first(net, batches, tmp_path, monkeypatch):
    surveyed = survey(net, batches, tmp_path / "survey")
    planned = plan(surveyed, tmp_path / "plan", keep=0.6, rank_multiple=2)
    replaced = {id(net.get_submodule(name).weight) for each in planned.reductions for name in each.sites}
    copied = []
    original = nn.Parameter.__deepcopy__
    monkeypatch.setattr(
        nn.Parameter, "__deepcopy__", lambda self, memo: copied.append(id(self)) or original(self, memo)
    )
    small = compress(net, surveyed, planned)
    assert replaced
    assert not replaced & set(copied)
    theirs = {id(parameter) for parameter in net.parameters()}
    assert not theirs & {id(parameter) for parameter in small.parameters()}


class OneInput(nn.Module):
    """What the README's example calls ``model``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (code,) = (block for block in blocks if "from edgelr.api" in block)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"torch": torch, "Path": Path, "model": OneInput().eval()}
    exec(code, names)  # what a reader would paste
    small, again = names["small"], names["again"]
    assert isinstance(small, nn.Module)
    assert isinstance(again, nn.Module)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in OneInput().parameters())
    x = torch.randn(4, 64)
    assert torch.equal(small(x), again(x))
