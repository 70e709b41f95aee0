"""Every kind of site through survey, plan, compress, save and load, in modules of a user's own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgelr.api import compress, first_output, load_factored, plan, save_factored, survey
from edgelr.artifacts import Plan, Survey
from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import matrix_count, traceable
from edgelr.export.parity import check_parity
from edgelr.export.tables import share_tables
from edgelr.export.tidy import constant_matrices, tidy
from edgelr.lowrank.conv_cost import largest_rank
from edgelr.lowrank.graph_file import write_graph
from edgelr.recipe.schema import Factors
from edgelr.structure import Reduction
from edgelr.tasks.task import GraphSpec

Batches = list[dict[str, Tensor]]


class ConvNet(nn.Module):
    """Convolutions in and around a norm, one strided, one in groups, one with a kernel of one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.down = nn.Conv2d(16, 24, (3, 5), stride=2, padding=(1, 2), bias=False)
        self.depth = nn.Conv2d(24, 24, 3, groups=24, padding=1)
        self.mix = nn.Conv2d(24, 24, 1)
        self.head = nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = nn.functional.relu(self.norm(self.stem(image)), inplace=True)
        x = nn.functional.relu(self.down(input=x), inplace=True)
        return self.head(self.mix(self.depth(x)).mean((2, 3)))


class Words(nn.Module):
    """A language model of one layer: a convolution over time, and a head that is the embedding."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(60, 24, padding_idx=0)
        self.time = nn.Conv1d(24, 24, 3, padding=1)
        self.mix = nn.Linear(24, 24)
        self.head = nn.Linear(24, 60)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.words(input_ids) * attention_mask[..., None]
        return self.head(torch.tanh(self.mix(self.time(x.mT).mT)))


class Twins(nn.Module):
    """Two linears with one weight and a bias each, one module in two places, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last, self.idle = (nn.Linear(16, 16) for _ in range(4))
        self.two.weight = self.one.weight
        self.again = self.last

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.two(torch.tanh(self.one(x))))
        return self.again(torch.tanh(self.last(x)))


def images() -> Batches:
    torch.manual_seed(1)
    return [{"image": torch.randn(6, 3, 10, 12)} for _ in range(3)]


def texts() -> Batches:
    torch.manual_seed(1)
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    return [{"input_ids": torch.randint(1, 60, (2, 9)) * mask, "attention_mask": mask} for _ in range(12)]


def vectors() -> Batches:
    torch.manual_seed(1)
    return [{"x": torch.randn(40, 16)} for _ in range(3)]


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(vocab_size=60, n_positions=16, n_embd=24, n_layer=2, n_head=4, initializer_range=0.3)
    return GPT2Model(config)


MODELS = {
    "convolutions": (ConvNet, images),
    "tied": (lambda: Words(tied=True), texts),
    "untied": (lambda: Words(tied=False), texts),
    "twins": (Twins, vectors),
    "gpt2": (gpt2, texts),
}


def made(name: str) -> tuple[nn.Module, Batches]:
    make, data = MODELS[name]
    torch.manual_seed(0)
    return make().eval(), data()


def surveyed(net: nn.Module, batches: Batches, folder: Path, factors: Factors = "kronecker") -> Survey:
    return survey(net, batches, folder / "survey", factors=factors, vocabulary=True)


def full_rank(found: Survey, form: str) -> list[Reduction]:
    """Reductions of every site of a survey to all of its rank, in a form."""
    sites = {site.name: site for site in found.sites}
    if form == "low-rank":
        return [
            Reduction(form="low-rank", sites=(name,), rank=min(site.out, site.in_), shared=site.shared)
            for name, site in sites.items()
        ]
    chosen = []
    for site in (sites[group.sites[0]] for group in found.groups if group.form == "spatial"):
        channels = site.in_ // (site.kernel[0] * site.kernel[1])
        rank = largest_rank(site.out, channels, site.kernel, "spatial")
        chosen.append(Reduction(form="spatial", sites=(site.name,), rank=rank))
    return chosen


def with_reductions(planned: Plan, reductions: list) -> Plan:
    return Plan(**{**vars(planned), "reductions": tuple(reductions)})


def outputs(net: nn.Module, batches: Batches) -> Tensor:
    with torch.no_grad():
        return torch.cat([first_output(net, batch) for batch in batches])


@pytest.mark.parametrize("factors", ["plain", "whitened", "kronecker"])
@pytest.mark.parametrize(
    ("name", "form"), [*((name, "low-rank") for name in MODELS), ("convolutions", "spatial")]
)
def test_full_rank_is_the_dense_model(name, form, factors, tmp_path):
    net, batches = made(name)
    found = surveyed(net, batches, tmp_path, factors)
    planned = with_reductions(plan(found, tmp_path / "plan", keep=1.0), full_rank(found, form))
    assert planned.reductions
    small = compress(net, found, planned, factors=factors)
    # fp32 rounding of two products in place of one, through all layers
    torch.testing.assert_close(outputs(small, batches), outputs(net, batches), atol=3e-4, rtol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_a_plan_is_carried_out_saved_and_loaded(name, tmp_path):
    net, batches = made(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = surveyed(net, batches, tmp_path)
    planned = plan(found, tmp_path / "plan", keep=0.5, rank_multiple=1)
    assert planned.kept_share <= 0.5
    small = compress(net, found, planned)
    dense = sum(parameter.numel() for parameter in net.parameters())
    kept = sum(parameter.numel() for parameter in small.parameters())
    assert dense == planned.dense.parameters
    assert kept == planned.candidate.parameters
    save_factored(small, tmp_path / "saved", planned)
    again = load_factored(tmp_path / "saved", net)
    assert torch.equal(outputs(again, batches), outputs(small, batches))
    assert sum(parameter.numel() for parameter in again.parameters()) == kept
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


AXES = {
    "image": {0: "batch", 2: "height", 3: "width"},
    "input_ids": {0: "batch", 1: "tokens"},
    "attention_mask": {0: "batch", 1: "tokens"},
    "x": {0: "batch"},
}


@pytest.mark.parametrize("name", ["convolutions", "tied", "untied", "twins"])
def test_the_exported_graph_has_all_matrices_and_equals_torch_at_two_shapes(name, tmp_path):
    net, batches = made(name)
    found = surveyed(net, batches, tmp_path)
    net.idle = None  # what never runs is in no graph
    small = compress(net, found, plan(found, tmp_path / "plan", keep=0.5, rank_multiple=1))
    smaller = {key: value[:1, ..., :8] for key, value in batches[1].items()}
    spec = GraphSpec(
        role="model",
        module=small,
        cases=(batches[0], batches[1] if name == "twins" else smaller),
        dynamic_axes={key: AXES[key] for key in batches[0]},
        outputs=("result",),
        output_axes={"result": {0: "batch"}},
    )
    graph = convert(spec, traceable(small), 20)
    fuse_attention(graph)
    proto = tidy(graph, spec, matrix_count(small))
    matrices = constant_matrices(proto)
    assert matrices > sum(
        isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) for module in net.modules()
    ) - (name == "twins")
    assert share_tables(proto) == (name == "tied")
    assert constant_matrices(proto) == matrices
    write_graph(proto, tmp_path / "model.onnx")
    check_parity(spec, tmp_path / "model.onnx", 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MODELS)
def test_weights_of_half_precision_keep_their_dtype(name, dtype, tmp_path):
    net, batches = made(name)
    net.to(dtype)
    batches = [
        {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}
        for batch in batches
    ]
    found = surveyed(net, batches, tmp_path)
    planned = plan(found, tmp_path / "plan", keep=0.6, rank_multiple=1)
    small = compress(net, found, planned)
    assert planned.reductions
    assert {parameter.dtype for parameter in small.parameters()} == {dtype}
    assert torch.isfinite(outputs(small, batches)).all()


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("name", MODELS)
def test_constant_weights_are_compressed_without_noise(name, value, tmp_path):
    net, batches = made(name)
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)
    found = surveyed(net, batches, tmp_path)
    planned = plan(found, tmp_path / "plan", keep=0.5, rank_multiple=1)
    small = compress(net, found, planned)
    assert planned.reductions
    # Every matrix has rank one.
    torch.testing.assert_close(outputs(small, batches), outputs(net, batches), atol=1e-4, rtol=1e-3)


def test_a_layer_that_never_runs_stays_dense_and_is_told(tmp_path):
    net, batches = made("twins")
    found = surveyed(net, batches, tmp_path)
    assert "idle" not in {site.name for site in found.sites}
    assert {entry.name: entry.reason for entry in found.skipped}["idle"].startswith("never ran")


def test_a_model_in_training_mode_is_surveyed_at_rest_and_left_as_it_was(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5), nn.BatchNorm1d(16), nn.Linear(16, 16))
    net[3].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    batches = [{"input": torch.randn(40, 16)}]
    found = survey(net, batches, tmp_path / "training")
    assert [module.training for module in net] == [True, True, True, False]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert found.sites == survey(net.eval(), batches, tmp_path / "at rest").sites
    planned = plan(found, tmp_path / "plan", keep=0.5, rank_multiple=1)
    small = compress(net.train(), found, planned)
    assert all(module.training for module in small.modules())


def test_padding_does_not_count_and_without_a_mask_all_positions_do(tmp_path):
    net, batches = made("untied")
    longer = [{key: nn.functional.pad(value, [0, 3]) for key, value in batch.items()} for batch in batches]
    first, second = (
        surveyed(net, data, tmp_path / name, "whitened") for name, data in (("a", batches), ("b", longer))
    )
    for one, other in zip(first.sites, second.sites, strict=True):
        assert one.energy == pytest.approx(other.energy, rel=1e-5)
    assert first.tokens == second.tokens == 12 * (9 + 6)

    def run(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(batch["ids"], torch.ones_like(batch["ids"]))

    unmasked = survey(net, [{"ids": batch["input_ids"]} for batch in batches], tmp_path / "c", run=run)
    assert unmasked.tokens == 24 * 9
    assert {site.name: site.calls for site in unmasked.sites} == {"time": 9, "mix": 9, "head": 9}


@pytest.mark.parametrize("name", MODELS)
def test_refining_leaves_shared_weights_alone_and_helps_the_others(name, tmp_path):
    net, batches = made(name)
    found = surveyed(net, batches, tmp_path)
    planned = plan(found, tmp_path / "plan", keep=0.6, rank_multiple=1)
    small = compress(net, found, planned)
    refined = compress(net, found, planned, refine_on=batches)
    dense = outputs(net, batches)
    errors = [float((outputs(each, batches) - dense).square().sum()) for each in (small, refined)]
    assert errors[1] <= errors[0] * 1.05
    for reduction in planned.reductions:
        if reduction.shared:
            one, other = (model.get_submodule(reduction.sites[0]) for model in (small, refined))
            assert torch.equal(one.up, other.up)
