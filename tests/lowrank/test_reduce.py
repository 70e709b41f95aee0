import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.checkpoint import load_factored_into, save_factored
from edgelr.lowrank.factoring import spectrum_of
from edgelr.lowrank.kinds import weight_of
from edgelr.lowrank.layers import IntoHeads, LowRankLinear, OutOfHeads
from edgelr.lowrank.reduce import reduce_sites, restore, restructure
from edgelr.lowrank.statistics import Statistics
from edgelr.structure import Reduction
from edgelr.survey.statistics import gather
from edgelr.tasks.task import get_task

HEADS, SIZE = 2, 4
REDUCTIONS = {
    "low-rank": Reduction(form="low-rank", sites=("q",), rank=3),
    "joint": Reduction(form="joint", sites=("q", "k", "v"), rank=3),
    "query-key": Reduction(form="query-key", sites=("q", "k"), rank=2, heads=HEADS),
    "value-output": Reduction(form="value-output", sites=("v", "o"), rank=3, heads=HEADS),
}
LAYERS = {
    "low-rank": [LowRankLinear],
    "joint": [LowRankLinear] * 3,
    "query-key": [IntoHeads] * 2,
    "value-output": [IntoHeads, OutOfHeads],
}
FULL = {"low-rank": 6, "joint": 6, "query-key": SIZE, "value-output": SIZE}
forms = pytest.mark.parametrize("form", REDUCTIONS)
methods = pytest.mark.parametrize("method", ["plain", "whitened", "kronecker"])


class Attention(nn.Module):
    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, HEADS * SIZE, bias=bias) for _ in range(3))
        self.o = nn.Linear(HEADS * SIZE, 6, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (each(x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for each in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.o(mixed.transpose(1, 2).flatten(2))


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(3, 10, 6) + torch.randn(6)


def attention(**options) -> Attention:
    torch.manual_seed(0)
    return Attention(**options)


def statistics(model: nn.Module, x: torch.Tensor) -> Statistics:
    batch = {"x": x, "attention_mask": torch.ones(x.shape[:2])}
    return gather(
        dict(model.named_children()), [batch], lambda b: model(b["x"]).square().sum(), curvature=True
    ).statistics()


def reduce(model, reduction, x, method="kronecker", emphasis=()):
    even = dict.fromkeys(reduction.sites, 1.0)
    return reduce_sites(model, reduction, statistics(model, x), method, even | dict(emphasis))


def at_full_size(form: str) -> Reduction:
    return Reduction(**{**vars(REDUCTIONS[form]), "rank": FULL[form]})


# --- reduce ------------------------------------------------------------------------------------------


@forms
@methods
@pytest.mark.parametrize("bias", [True, False])
def test_at_full_size_the_model_computes_the_same(form, method, bias, x):
    model = attention(bias=bias)
    before = model(x)
    reduce(model, at_full_size(form), x, method)
    assert [type(model.get_submodule(name)) for name in REDUCTIONS[form].sites] == LAYERS[form]
    torch.testing.assert_close(model(x), before, atol=1e-4, rtol=1e-4)


@forms
@methods
def test_smaller_is_an_approximation_with_fewer_parameters(form, method, x):
    model, dense = attention(), attention()
    reduce(model, REDUCTIONS[form], x, method)
    error = (model(x) - dense(x)).square().sum()
    assert 0 < error < (dense(x) - dense(x).mean((0, 1))).square().sum()
    before, after = (sum(p.numel() for p in each.parameters()) for each in (dense, model))
    assert after < before


@forms
def test_a_restored_model_is_the_one_before(form, x):
    model = attention()
    before, state = dict(model.named_modules()), copy.deepcopy(model.state_dict())
    taken = reduce(model, REDUCTIONS[form], x)
    assert list(taken) == list(REDUCTIONS[form].sites)
    restore(model, taken)
    assert all(module is before[name] for name, module in model.named_modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@forms
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtypes_stay(form, dtype, x):
    model = attention()
    known = statistics(model, x)
    model.to(dtype)
    emphasis = dict.fromkeys(REDUCTIONS[form].sites, 1.0)
    reduce_sites(model, REDUCTIONS[form], known, "whitened", emphasis)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert torch.isfinite(model(x.to(dtype))).all()


def test_joint_layers_share_down_and_emphasis_decides_who_loses(x):
    losses = {}
    for favourite in ("q", "v"):
        model, dense = attention(), attention()
        reduce(model, REDUCTIONS["joint"], x, "whitened", {favourite: 1000.0})
        assert model.q.down is model.k.down is model.v.down
        losses[favourite] = [
            float((getattr(model, name)(x) - getattr(dense, name)(x)).detach().square().sum())
            for name in ("q", "v")
        ]
    assert losses["q"][0] < losses["v"][0]
    assert losses["v"][1] < losses["q"][1]


def test_several_reductions_go_side_by_side(x):
    model, known = attention(), statistics(attention(), x)
    before = model(x)
    for form in ("query-key", "value-output"):
        reduce_sites(model, at_full_size(form), known, "kronecker", {})
    torch.testing.assert_close(model(x), before, atol=1e-4, rtol=1e-4)


# --- a structure, and its weights --------------------------------------------------------------------


@forms
def test_a_saved_model_comes_back(form, x, tmp_path):
    model, reduction = attention(), REDUCTIONS[form]
    reduce(model, reduction, x)
    factored = save_factored(model, tmp_path / "f", reductions=[reduction], method="kronecker")
    assert factored.reductions == (reduction,)
    loaded = load_factored_into(attention(), factored)
    assert [type(loaded.get_submodule(name)) for name in reduction.sites] == LAYERS[form]
    assert torch.equal(loaded(x), model(x))
    assert len(list(loaded.parameters())) == len(list(model.parameters()))
    if form == "joint":
        assert loaded.q.down is loaded.k.down is loaded.v.down


@pytest.mark.parametrize(
    ("reduction", "message"),
    [
        (
            Reduction(form="low-rank", sites=("nothing",), rank=2),
            "'nothing', which is not a layer of this model",
        ),
        (Reduction(form="low-rank", sites=("o.weight",), rank=2), "'o.weight'"),
        (Reduction(form="joint", sites=("q", "norm"), rank=2), "'norm'"),
        (Reduction(form="query-key", sites=("q", "k"), rank=2, heads=3), "2 channels in each of 3 heads"),
        (Reduction(form="query-key", sites=("q", "k"), rank=5, heads=2), "5 channels in each of 2 heads"),
        (Reduction(form="value-output", sites=("v", "o"), rank=0, heads=2), "0 channels in each"),
        (Reduction(form="value-output", sites=("v", "o"), rank=1, heads=0), "1 channels in each of 0 heads"),
        (Reduction(form="joint", sites=("q", "o"), rank=2), "'q', 'o'"),
        (Reduction(form="low-rank", sites=("q",), rank=0), "rank 0"),
        (Reduction(form="joint", sites=("q", "k"), rank=7), "rank 7"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_structure_of_another_model_is_refused(reduction, message):
    model = attention()
    model.norm = nn.LayerNorm(6)
    before = dict(model.named_modules())
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        restructure(model, [reduction])
    assert caught.value.exit_code == 4
    assert all(module is before[name] for name, module in model.named_modules()), "nothing was done"


# --- real attention code -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tiny_model):
    """A real BERT, a padded batch for it, and its statistics."""
    task = get_task("sentence-embedding")
    model = task.load_model(tiny_model)
    texts = ["how do I copy a file", "sort", "To merge the table, call table_merge with its name."]
    (batch,) = task.batches(task.tokenizer_json(tiny_model), texts, max_tokens=32, size=8)
    sites = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    sums = gather(sites, [batch], lambda b: task.probe(task.run(model, b).result), curvature=True)
    return model, batch, sums.statistics()


LAYER = "transformer.encoder.layer.1.attention."
PAIRS = {
    "query-key": (LAYER + "self.query", LAYER + "self.key"),
    "value-output": (LAYER + "self.value", LAYER + "output.dense"),
}


@torch.inference_mode()
@pytest.mark.parametrize("form", PAIRS)
def test_a_bert_with_heads_of_full_size_gives_the_same_embedding(bert, form):
    model, batch, known = bert
    run = get_task("sentence-embedding").run
    before = run(model, batch).result
    errors = []
    for size in (16, 8, 2):
        taken = reduce_sites(
            model, Reduction(form=form, sites=PAIRS[form], rank=size, heads=4), known, "kronecker", {}
        )
        errors.append(float((run(model, batch).result - before).norm()))
        restore(model, taken)
    assert errors[0] < 1e-4
    assert errors[0] < errors[1] < errors[2]
    np.testing.assert_array_equal(run(model, batch).result, before)


@pytest.mark.parametrize("form", ["low-rank", "joint"])
@pytest.mark.parametrize("method", ["whitened", "kronecker"])
def test_about_the_mean_outputs_keep_it_and_lose_less(form, method, x):
    model, reduction = attention(), REDUCTIONS[form]
    known = statistics(model, x)
    centered = replace(known, centered=frozenset({"q", "k", "v"}))
    errors = {}
    for name, each in (("plain", known), ("centered", centered)):
        small = copy.deepcopy(model)
        reduce_sites(small, reduction, each, method, {"q": 1.0, "k": 1.0, "v": 1.0})
        lost = [small.get_submodule(site)(x) - model.get_submodule(site)(x) for site in reduction.sites]
        errors[name] = torch.stack(lost).detach().flatten(1, 2)
    assert errors["centered"].mean(dim=1).abs().max() < 1e-5
    if method == "whitened":
        assert errors["centered"].square().sum() < 0.99 * errors["plain"].square().sum()


def test_about_the_mean_dropped_energy_is_the_error(x):
    model, reduction = attention(), REDUCTIONS["low-rank"]
    known = replace(statistics(model, x), centered=frozenset({"q"}))
    energies = spectrum_of(weight_of(model.q), reduction, known, "whitened").energies
    small = copy.deepcopy(model)
    reduce_sites(small, reduction, known, "whitened", {})
    error = (small.q(x) - model.q(x)).detach().double().square().sum()
    assert float(error) == pytest.approx(energies[reduction.rank :].sum(), rel=1e-5)


def test_layers_that_share_a_factor_are_about_the_mean_only_together(x):
    """Whisper's keys have no bias that could take what is left of the mean."""
    model = attention()
    known = statistics(model, x)
    some = replace(known, centered=frozenset({"q", "v"}))
    products = []
    for each in (known, some):
        small = copy.deepcopy(model)
        reduce_sites(small, REDUCTIONS["joint"], each, "whitened", {"q": 1.0, "k": 1.0, "v": 1.0})
        products.append((small.v.weight, small.v.bias))
    assert all(torch.equal(one, other) for one, other in zip(*products, strict=True))
