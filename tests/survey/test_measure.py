"""Spectra and sensitivities of sites and groups; through whole surveys in ``test_torch_module.py``."""

import numpy as np
import pytest
import torch
from torch import nn

from edgelr.lowrank.kinds import weight_of
from edgelr.structure import Sensitivity
from edgelr.survey.groups import Found
from edgelr.survey.measure import Probe, joint_group, measure_site, measure_spatial
from edgelr.survey.statistics import gather
from edgelr.survey.trial import measure_change, measure_pair


class Net(nn.Module):
    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.conv, self.strip = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, (1, 3))
        self.q, self.k = nn.Linear(6, 8), nn.Linear(6, 8)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.strip(torch.relu(self.conv(x))).flatten(2).mT
        return torch.softmax(self.between(self.q(tokens)) @ self.k(tokens).mT, dim=-1)


def probe_of(between: nn.Module) -> tuple[Net, Probe]:
    torch.manual_seed(0)
    net, x = Net(between).eval().requires_grad_(False), torch.randn(2, 3, 8, 8)
    reference = net(x)
    sites = {name: getattr(net, name) for name in ("conv", "strip", "q", "k")}
    known = gather(sites, [{"x": x}], lambda batch: net(batch["x"]).sum(), curvature=False).statistics()

    def change() -> float:
        return float((net(x) - reference).square().sum() / reference.square().sum())

    return net, Probe(
        weight=lambda name: weight_of(sites[name]),
        statistics=known,
        method="whitened",
        points=2,
        change=lambda reduction, known: measure_change(net, reduction, known, "whitened", change),
    )


@pytest.fixture
def probe() -> Probe:
    return probe_of(nn.Identity())[1]


@pytest.mark.parametrize("name", ["conv", "strip", "q"])
def test_a_site_has_a_spectrum_and_changes_that_rise_with_what_is_dropped(name):
    net, probe = probe_of(nn.Identity())
    before = dict(net.named_modules())
    spectrum, found = measure_site(probe, name, ())
    assert spectrum.energies.shape == (6,)
    assert len(found.points) == 2
    assert 0 < found.points[0][0] < found.points[1][0] < spectrum.energies.sum()
    assert 0 < found.points[0][1] <= found.points[1][1]
    assert dict(net.named_modules()) == before


def test_only_a_kernel_with_two_axes_has_a_spatial_form(probe):
    assert measure_spatial(probe, "strip") is None
    assert measure_spatial(probe, "q") is None
    group, spectrum = measure_spatial(probe, "conv") or (None, np.zeros(0))
    assert group is not None
    assert (group.form, group.sites, group.name) == ("spatial", ("conv",), "spatial:conv")
    assert group.energy == pytest.approx(spectrum.sum())
    assert len(spectrum) == min(6 * 3, 3 * 3)
    assert len(group.sensitivity.points) == 2


@pytest.mark.parametrize("heads", [1, 2])
def test_heads_have_a_spectrum_where_the_model_takes_nothing_but_their_product(heads):
    # The model adds the products of all channels, so that heads of any size are a pair here.
    pair = Found(form="query-key", sites=("q", "k"), heads=heads, head_size=8 // heads)
    net, probe = probe_of(nn.Identity())
    found = measure_pair(probe, pair, [net.q, net.k])
    assert found is not None
    group, spectrum = found
    assert (group.heads, group.head_size, len(spectrum)) == (heads, 8 // heads, 8 // heads)
    assert len(group.sensitivity.points) == 2
    net, probe = probe_of(nn.LayerNorm(8))
    assert measure_pair(probe, pair, [net.q, net.k]) is None


def test_joint_sites_have_an_energy_each(probe):
    slopes = {name: Sensitivity(points=((1.0, 0.1),)) for name in ("q", "k")}
    group, spectrum = joint_group(probe, ("q", "k"), slopes)
    assert (group.form, group.energy, group.sensitivity.points) == ("joint", 0.0, ())
    assert spectrum.energies.shape == (2, 6)
    alone = [measure_site(probe, name, ())[0].energies.sum() for name in ("q", "k")]
    np.testing.assert_allclose(spectrum.energies.sum(axis=1), alone, rtol=1e-6)
