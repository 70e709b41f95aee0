"""The factors of a site minimise the error that their method promises, and their energies tell it."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from edgelr.lowrank.conv_patches import patch_gram
from edgelr.lowrank.factoring import conv_form, decomposition, factors_of, spectrum_of
from edgelr.lowrank.kinds import matrix, weight_of
from edgelr.lowrank.statistics import Statistics
from edgelr.structure import Reduction
from edgelr.survey.statistics import gather

METHODS = ["plain", "whitened", "kronecker"]


def image() -> torch.Tensor:
    return torch.randn(4, 3, 9, 8).cumsum(-1).cumsum(-2)  # neighbours are alike, as in images


def case(kind: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "linear": lambda: (nn.Linear(6, 9), torch.randn(50, 6) @ torch.randn(6, 6)),
        "transposed": lambda: (Conv1D(9, 6), torch.randn(50, 6) @ torch.randn(6, 6)),
        "conv": lambda: (nn.Conv2d(3, 8, 3, padding=1, stride=(1, 2)), image()),
        "wide conv": lambda: (nn.Conv2d(3, 40, 3), image()),
        "spatial": lambda: (nn.Conv2d(3, 8, (3, 5), padding=1, stride=(1, 2)), image()),
        "embedding": lambda: (nn.Embedding(30, 6), torch.randint(0, 20, (50,))),
    }[kind]()


def gathered(layer: nn.Module, x: torch.Tensor) -> Statistics:
    def run(batch):
        torch.manual_seed(2)
        output = layer(batch["x"])
        return (output * torch.randn_like(output) * torch.linspace(0.2, 2, output.shape[1])[0]).sum()

    return gather({"a": layer}, [{"x": x}], run, curvature=True).statistics()


def reduction(kind: str, rank: int) -> Reduction:
    return Reduction(form="spatial" if kind == "spatial" else "low-rank", sites=("a",), rank=rank)


KINDS = ["linear", "transposed", "conv", "wide conv", "spatial", "embedding"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_full_rank_gives_the_matrix_back(kind, method):
    layer, x = case(kind)
    what = reduction(kind, 1)
    whole = matrix(layer, conv_form(what))
    full = reduction(kind, min(whole.shape))
    energies = spectrum_of(weight_of(layer), full, gathered(layer, x), method).energies
    assert energies.shape == (min(whole.shape),)
    assert np.all(np.diff(energies) <= 1e-9 * energies[0])
    found = factors_of(weight_of(layer), full, gathered(layer, x), method)
    np.testing.assert_allclose(found.product, whole, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "transposed", "conv", "wide conv", "embedding"])
def test_whitened_energies_are_the_error_of_the_output(kind):
    layer, x = case(kind)
    known, rank = gathered(layer, x), 3
    found = factors_of(weight_of(layer), reduction(kind, rank), known, "whitened")
    dropped = spectrum_of(weight_of(layer), reduction(kind, rank), known, "whitened").energies[rank:].sum()
    lost = found.product - matrix(layer)
    if kind == "embedding":  # rows that never came count a tenth
        counts = np.maximum(np.bincount(x.numpy(), minlength=30), 0.1)
        error = float((np.square(lost).sum(axis=0) * counts).sum())
    elif isinstance(layer, nn.Conv2d):
        error = float(np.einsum("oi,ij,oj->", lost, patch_gram(layer, x), lost))
    else:
        error = float(np.square(lost @ x.double().numpy().T).sum())
    assert dropped == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_each_method_is_the_best_by_its_own_measure(kind):
    layer, x = case(kind)
    known, rank = gathered(layer, x), 2
    what = reduction(kind, rank)
    weight = matrix(layer, conv_form(what))
    dropped = {
        method: spectrum_of(weight_of(layer), what, known, method).energies[rank:].sum() for method in METHODS
    }
    plain = {
        m: np.square(factors_of(weight_of(layer), what, known, m).product - weight).sum() for m in METHODS
    }
    assert plain["plain"] == pytest.approx(dropped["plain"])
    assert plain["plain"] <= min(plain.values()) * (1 + 1e-9)
    assert plain["whitened"] > plain["plain"]  # another measure has another best


def test_a_spatial_form_that_knows_its_inputs_beats_one_that_does_not():
    layer, x = case("spatial")
    known = gathered(layer, x)
    errors = {}
    for method in ("plain", "whitened"):
        found = factors_of(weight_of(layer), reduction("spatial", 4), known, method)
        dense = matrix(layer, "spatial")
        kernel = (found.product - dense).reshape(8, 5, 3, 3).transpose(0, 2, 3, 1)
        lost = torch.from_numpy(kernel.copy())
        output = nn.functional.conv2d(x.double(), lost, stride=layer.stride, padding=layer.padding)
        errors[method] = float(output.square().sum())
    assert errors["whitened"] < errors["plain"]


def test_without_a_curvature_kronecker_is_whitened():
    layer, x = case("linear")
    known = gathered(layer, x)
    bare = Statistics(inputs=known.inputs, grams=known.grams, sums=known.sums, curvatures={})
    one, other = (
        decomposition(weight_of(layer), "a", bare, method).energies for method in ("kronecker", "whitened")
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("method", METHODS)
def test_a_table_with_a_head_has_factors_for_both(method):
    layer, x = case("embedding")
    hidden = np.random.default_rng(0).normal(size=(100, 6))
    known = gathered(layer, x)
    both = Statistics(**{**vars(known), "heads": {"a": hidden.T @ hidden}})
    full = factors_of(weight_of(layer), reduction("embedding", 6), both, method)
    np.testing.assert_allclose(full.product, matrix(layer), atol=1e-5)
    energies = spectrum_of(weight_of(layer), reduction("embedding", 1), both, method).energies
    assert energies.sum() == pytest.approx(2)  # the whole of two relative errors
    tied, alone = (
        factors_of(weight_of(layer), reduction("embedding", 2), each, method) for each in (both, known)
    )
    assert np.allclose(tied.product, alone.product) == (method == "plain")
