"""Weights that stay in their file: what is computed with them is the same to the bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgelr.lowrank.kinds import weight_of
from edgelr.lowrank.stored import StoredTensor, bring_in, stored_tensor, values_of

HALVES = torch.linspace(-1, 1, 48).reshape(8, 6).bfloat16()
VALUES = HALVES.float()


@pytest.fixture
def stored(tmp_path: Path) -> StoredTensor:
    """The values in a file, in half precision."""
    save_file({"other": torch.zeros(3), "weight": HALVES}, tmp_path / "w.safetensors")
    return stored_tensor(tmp_path / "w.safetensors", "weight", (8, 6))


def pair(stored: StoredTensor) -> tuple[nn.Linear, nn.Linear]:
    """The same layer with its weight in memory, and in its file."""
    whole, kept = nn.Linear(6, 8), nn.Linear(6, 8)
    whole.weight = nn.Parameter(VALUES.clone(), requires_grad=False)
    kept.weight, kept.bias = nn.Parameter(stored, requires_grad=False), whole.bias
    return whole, kept


def test_a_layer_computes_the_same_and_so_do_its_gradients(stored: StoredTensor) -> None:
    whole, kept = pair(stored)
    results = []
    for layer in (whole, kept):
        x = torch.arange(36.0).reshape(2, 3, 6).requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        results.append((y, x.grad))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert type(results[1][0]) is Tensor


def test_for_the_gradient_no_values_are_kept(stored: StoredTensor) -> None:
    """Or a backward pass would hold the whole model."""
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        pair(stored)[1](torch.zeros(2, 3, 6, requires_grad=True))
        torch.addmm(torch.zeros(6), torch.zeros(2, 8, requires_grad=True), stored)  # as in GPT-2
    assert [type(each) for each in kept if each.numel() == VALUES.numel()] == [StoredTensor, StoredTensor]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_seen_as_any_tensor(stored: StoredTensor, mode: type) -> None:
    _, kept = pair(stored)
    with mode():
        assert torch.equal(values_of(kept.weight), VALUES)
        assert torch.equal(kept.weight.detach().T, VALUES.T)
        assert torch.equal(nn.functional.embedding(torch.tensor([5, 2]), kept.weight), VALUES[[5, 2]])
        assert torch.equal(torch.cat([kept.weight, kept.weight]), torch.cat([VALUES, VALUES]))
        assert (weight_of(kept).values == VALUES.numpy()).all()
    shown = (kept.weight.shape, kept.weight.dtype, kept.weight.device.type, kept.weight.nbytes)
    assert shown == ((8, 6), torch.float32, "cpu", 4 * 48)
    assert isinstance(kept.weight, nn.Parameter)
    assert not kept.weight.is_meta


def test_an_ordinary_tensor_has_its_values(stored: StoredTensor) -> None:
    assert values_of(VALUES).data_ptr() == VALUES.data_ptr()


def test_it_cannot_be_written_to(stored: StoredTensor) -> None:
    _, kept = pair(stored)
    with torch.no_grad(), pytest.raises(RuntimeError, match="writes to a weight that stays in its file"):
        kept.weight.zero_()


def test_brought_in_it_is_an_ordinary_parameter_and_shared_as_before(stored: StoredTensor) -> None:
    first, second = nn.Embedding(8, 6), nn.Linear(6, 8)
    first.weight = second.weight = nn.Parameter(stored)
    plain = bring_in(nn.Sequential(first, second, nn.Linear(2, 2)))
    assert plain[0].weight is plain[1].weight
    assert type(plain[0].weight) is nn.Parameter
    assert torch.equal(plain[0].weight, VALUES)
    assert plain[0].weight.requires_grad
    plain[0].weight.data.zero_()
    assert not plain[1].weight.any()


def test_brought_in_empty_nothing_is_read() -> None:
    gone = stored_tensor(Path("no such file"), "weight", (8, 6))
    layer = nn.Linear(6, 8)
    layer.weight = nn.Parameter(gone)
    assert bring_in(layer, empty=True).weight.shape == (8, 6)
