"""A survey of modules written here: no task, no files but its own."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from edgelr.artifact_files import read_survey
from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.reduce import reduce_sites
from edgelr.lowrank.statistics import open_statistics
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.structure import Reduction
from edgelr.survey.torch_module import Subject, survey_module

HEADS, SIZE = 2, 4


class Attention(nn.Module):
    """Self-attention with names that are known; ``between`` comes between query and scores."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.num_heads = HEADS
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(8, HEADS * SIZE) for _ in range(3))
        self.out_proj = nn.Linear(HEADS * SIZE, 8)
        self.between = between

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            each(hidden).unflatten(-1, (HEADS, SIZE)).transpose(1, 2)
            for each in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = nn.functional.scaled_dot_product_attention(self.between(q), k, v, mask[:, None, None, :])
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.embed, self.attention = nn.Embedding(20, 8), Attention(between)
        self.up, self.down, self.idle = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(ids)
        hidden = self.norm(hidden + self.attention(hidden, mask))
        hidden = hidden + self.down(input=torch.relu(self.up(input=hidden)))
        return (hidden * mask[..., None]).sum(1)


class Unit(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x, dim=-1)


class Turned(nn.Module):
    """Rotates channels by an angle that depends on the position, as rotary embeddings do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angle = torch.arange(x.shape[-2])[:, None] * 0.7
        one, two = x.chunk(2, dim=-1)
        return torch.cat(
            [one * angle.cos() - two * angle.sin(), one * angle.sin() + two * angle.cos()], dim=-1
        )


def encoder(between: nn.Module | None = None) -> Encoder:
    torch.manual_seed(0)
    return Encoder(between or nn.Identity()).eval().requires_grad_(False)


def batches(padding: int = 0):
    torch.manual_seed(1)
    made = []
    for _ in range(3):
        mask = torch.ones(4, 6 + padding)
        mask[1, 4:] = mask[:, 6:] = 0
        ids = torch.randint(0, 20, (4, 6))
        made.append(
            {"ids": nn.functional.pad(ids, [0, padding], value=3), "attention_mask": mask.to(torch.int64)}
        )
    return made


def subject(model: nn.Module, data=None) -> Subject:
    data = data or batches()

    def run(model: nn.Module, batch) -> torch.Tensor:
        return model(batch["ids"], batch["attention_mask"].bool())

    def probe(output: torch.Tensor) -> torch.Tensor:
        return (output * torch.randn(output.shape[-1])).sum()  # the same directions however it is padded

    return Subject(
        model=model,
        batches=data,
        few=data[:2],
        run=run,
        distance=lambda output, reference: (output - reference).square().sum(-1),
        probe=probe,
    )


def settings(**values) -> Compress:
    return Compress.model_validate_json(json.dumps({"keep": {"parameters": 0.5}, **values}))


def survey(model, folder, *, data=None, progress=None, **values):
    folder.mkdir(exist_ok=True)
    return survey_module(subject(model, data), settings(**values), folder, progress or Progress(quiet=True))


def spectra(found) -> dict[str, np.ndarray]:
    with np.load(found.folder / "spectra.npz") as archive:
        return {name: archive[name] for name in archive.files}


SITES = ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj", "up", "down"]
PAIRS = [("query-key", SITES[0], SITES[1]), ("value-output", SITES[2], SITES[3])]


@pytest.mark.parametrize("factors", ["plain", "whitened", "kronecker"])
def test_everything_that_can_be_reduced_is_listed(tmp_path, factors):
    model = encoder()
    found = survey(model, tmp_path, factors=factors, calibration={"sensitivity_points": 3})
    assert found == read_survey(tmp_path)
    assert [site.name for site in found.sites] == SITES
    assert [(group.form, *group.sites) for group in found.groups] == [*PAIRS, ("joint", *SITES[:3])]
    assert (found.tokens, found.parameters) == (3 * 22, sum(p.numel() for p in model.parameters()))
    known = spectra(found)
    assert set(known) == {*SITES, *(group.name for group in found.groups)}
    assert known["joint:attention.q_proj"].shape == (3, 8)
    for entry in (*found.sites, *found.groups[:2]):
        energies = known[entry.name]
        assert energies.sum() == pytest.approx(entry.energy)
        assert np.all(np.diff(energies) <= 0)
        points = entry.sensitivity.points
        assert len(points) == 3
        assert all(0 < energy < entry.energy and change > 0 for energy, change in points)
    assert {site.inputs for site in found.sites[:3]} == {SITES[0]}
    assert {site.calls for site in found.sites} == {1}


def test_what_never_ran_is_left_and_said(tmp_path, capsys):
    found = survey(encoder(), tmp_path, progress=Progress(plain=True))
    reasons = {entry.name: entry.reason for entry in found.skipped}
    assert reasons == {
        "embed": "an embedding: compress.vocabulary is off",
        "idle": "never ran on the calibration data",
    }
    assert "'idle' never ran on the calibration data and is left dense" in capsys.readouterr().err


def test_nothing_that_ran_is_an_error(tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"none of the 1 layers to factor ran .* such as 'idle'"):
        survey(encoder(), tmp_path, include=["idle"])


@pytest.mark.parametrize("between", [Unit(), Turned()], ids=["norm", "rotary"])
def test_a_pair_whose_attention_does_more_is_refused_with_the_reason(tmp_path, between):
    found = survey(encoder(between), tmp_path)
    assert {group.form for group in found.groups} == {"joint", "value-output"}
    reasons = {entry.name: entry.reason for entry in found.skipped}
    assert reasons["attention.q_proj with attention.k_proj"] == (
        "as attention heads: the layer computes more than their product"
    )


def test_the_model_is_as_it_was(tmp_path):
    model = encoder()
    modules, state = dict(model.named_modules()), copy.deepcopy(model.state_dict())
    survey(model, tmp_path)
    assert all(module is modules[name] for name, module in model.named_modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_padding_changes_nothing(tmp_path):
    one, other = (survey(encoder(), tmp_path / str(padding), data=batches(padding)) for padding in (0, 5))
    assert one.tokens == other.tokens
    with open_statistics(one) as first, open_statistics(other) as second:
        for site in SITES:
            np.testing.assert_allclose(first.gram(site), second.gram(site), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(first.curvature(site), second.curvature(site), rtol=1e-3, atol=1e-3)
    for name, energies in spectra(one).items():
        np.testing.assert_allclose(spectra(other)[name], energies, rtol=1e-2, atol=1e-4 * energies.max())


def test_the_same_survey_has_the_same_bytes(tmp_path):
    for name in "ab":
        survey(encoder(), tmp_path / name)
    for file in ("survey.json", "spectra.npz", "statistics.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_curvatures_are_gathered_only_where_they_are_needed(tmp_path):
    for factors in ("whitened", "kronecker"):
        with open_statistics(survey(encoder(), tmp_path / factors, factors=factors)) as statistics:
            assert (statistics.curvature("up") is None) == (factors == "whitened")


def test_a_change_is_that_of_the_reduced_model(tmp_path):
    model = encoder()
    found = survey(model, tmp_path)
    site = next(site for site in found.sites if site.name == "up")
    energies = spectra(found)["up"]
    ((dropped, change),) = site.sensitivity.points
    (rank,) = (rank for rank in range(1, 8) if energies[rank:].sum() == pytest.approx(dropped))
    with torch.inference_mode():
        references = [subject(model).run(model, batch) for batch in batches()[:2]]
    with open_statistics(found) as statistics:
        reduction = Reduction(form="low-rank", sites=("up",), rank=rank)
        reduce_sites(model, reduction, statistics, "kronecker", {})
    with torch.inference_mode():
        outputs = [subject(model).run(model, batch) for batch in batches()[:2]]
    errors = (torch.cat(outputs) - torch.cat(references)).square().sum(-1)
    assert change == pytest.approx(float(errors.mean()), rel=1e-3)


@pytest.mark.parametrize("factors", ["plain", "whitened", "kronecker"])
def test_large_matrices_are_decomposed_once(factors, tmp_path, monkeypatch):
    """A basis is kept, and compressing with it is compressing."""
    exact = survey(encoder(), tmp_path / "exact", factors=factors)
    monkeypatch.setattr("edgelr.lowrank.bases.LARGE", 8)
    found = survey(encoder(), tmp_path / "large", factors=factors)
    layers = {f"attention.{name}_proj" for name in ("q", "k", "v", "out")} | {"up", "down"}
    with np.load(found.folder / "bases.npz") as archive:
        alone = set() if factors == "plain" else layers
        assert set(archive.files) == alone | {"joint:attention.q_proj"}
    for name, energies in spectra(exact).items():
        assert spectra(found)[name].shape == energies.shape
        # The floor of a curvature is added in another place: see lowrank/bases.py.
        assert spectra(found)[name].sum() == pytest.approx(energies.sum(), rel=0.05)
        if factors != "kronecker":
            np.testing.assert_allclose(spectra(found)[name], energies, rtol=1e-4, atol=1e-9 * energies.max())
    reductions = [
        Reduction(form="low-rank", sites=("up",), rank=4),
        Reduction(form="joint", sites=("attention.q_proj", "attention.k_proj", "attention.v_proj"), rank=5),
    ]
    for reduction in reductions:
        products = []
        for each in (exact, found):
            model, emphasis = encoder(), {site.name: site.sensitivity.slope for site in exact.sites}
            with open_statistics(each) as statistics:
                reduce_sites(model, reduction, statistics, factors, emphasis)
            products.append([model.get_submodule(site).weight.detach() for site in reduction.sites])
        for one, other in zip(*products, strict=True):
            near = 1e-3 if factors != "kronecker" else 0.5
            assert (one - other).norm() < near * one.norm()


def test_which_sites_are_fitted_about_the_mean(tmp_path):
    model = encoder()
    model.up.bias = None
    found = survey(model, tmp_path, center=True)
    assert {site.name for site in found.sites if not site.centered} == {"up"}
    whole = survey(model, tmp_path / "whole")
    assert not any(site.centered for site in whole.sites)
    before, after = ({site.name: site.energy for site in each.sites} for each in (whole, found))
    assert after["up"] == before["up"]
    assert after["attention.q_proj"] < before["attention.q_proj"]
    with open_statistics(found) as statistics:
        assert statistics.centered == {site.name for site in found.sites if site.centered}
