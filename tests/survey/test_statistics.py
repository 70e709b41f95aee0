import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgelr.errors import DataError, UnsupportedModelError
from edgelr.survey.statistics import gather


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.o, self.unused = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        return self.o(torch.tanh(self.q(input=x) + self.k(x)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Shared()


def statistics(model, batches, *, curvature=False):
    sites = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return gather(
        sites, batches, lambda batch: (model(batch["x"]) * batch["direction"]).sum(), curvature=curvature
    )


def batch(x, mask=None):
    """With a direction of the output whose gradient counts; where it is masked, one that is no number."""
    torch.manual_seed(1)
    direction = torch.randn(4)
    return {"x": x, "direction": direction} | ({} if mask is None else {"attention_mask": mask})


MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])


def padded(x, mask):
    """The same with more padding, one row at a time."""
    longer = torch.cat([x, torch.full((len(x), 2, 4), 99.0)], dim=1)
    masks = torch.cat([mask, torch.zeros(len(x), 2, dtype=mask.dtype)], dim=1)
    return [batch(longer[n : n + 1], masks[n : n + 1]) for n in range(len(x))]


def test_equals_numpy_on_the_unmasked_rows_however_they_are_padded(model):
    x = torch.randn(3, 5, 4)
    rows = x[MASK.bool()].double().numpy()
    for batches in ([batch(x, MASK)], padded(x, MASK)):
        found = statistics(model, batches)
        np.testing.assert_allclose(found.grams["q"], rows.T @ rows, rtol=1e-12)
        np.testing.assert_allclose(found.sums["q"], [*rows.sum(axis=0), 9], rtol=1e-12)
        assert found.tokens == 9
        assert found.curvatures == {}


@pytest.mark.parametrize("shape", [(3, 5, 4), (7, 4)], ids=str)
def test_without_a_mask_every_row_counts(model, shape):
    x = torch.randn(shape)
    found = statistics(model, [batch(x)])
    rows = x.reshape(-1, 4).double().numpy()
    np.testing.assert_allclose(found.grams["q"], rows.T @ rows, rtol=1e-12)
    assert found.tokens == len(rows)


def test_curvatures_are_those_of_the_gradients_at_unmasked_tokens(model):
    x = torch.randn(3, 5, 4)
    q, k = model.q(x), model.k(x)
    inner = (q + k).detach().requires_grad_()
    (model.o(torch.tanh(inner)) * batch(x)["direction"]).sum().backward()
    rows = inner.grad[MASK.bool()].double().numpy()
    model.zero_grad()
    for batches in ([batch(x, MASK)], padded(x, MASK)):
        found = statistics(model, batches, curvature=True)
        for site in ("q", "k"):  # the output is a function of their sum
            np.testing.assert_allclose(found.curvatures[site], rows.T @ rows, rtol=1e-5, atol=1e-9)
        last = 9 * np.outer(*[batch(x)["direction"].double().numpy()] * 2)
        np.testing.assert_allclose(found.curvatures["o"], last, rtol=1e-5)
        np.testing.assert_array_equal(found.grams["o"], statistics(model, batches).grams["o"])


@pytest.mark.parametrize("trainable", [True, False])
def test_gathering_leaves_the_model_as_it_was(model, trainable):
    model.requires_grad_(trainable)
    before = copy.deepcopy(model.state_dict())
    statistics(model, [batch(torch.randn(3, 5, 4), MASK)], curvature=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [parameter.grad for parameter in model.parameters()] == [None] * 8
    assert all(parameter.requires_grad == trainable for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_sites_that_read_the_same_tensor_share_a_gram(model):
    found = statistics(model, [batch(torch.randn(2, 3, 4), torch.ones(2, 3))])
    assert found.inputs == {"q": "q", "k": "q", "o": "o"}
    assert set(found.grams) == set(found.sums) == {"q", "o"}
    assert found.calls == {"q": 1, "k": 1, "o": 1}
    assert found.statistics().gram("k") is found.grams["q"]


class InPlace(Shared):
    def forward(self, x):
        one = self.q(x)
        x.add_(1)
        return one + self.k(x)


def test_a_tensor_that_was_changed_in_place_is_another_input():
    x = torch.randn(2, 3, 4)
    rows = x.reshape(-1, 4).double().numpy()
    found = statistics(InPlace(), [batch(x)])
    assert found.inputs == {"q": "q", "k": "k"}
    np.testing.assert_allclose(found.grams["q"], rows.T @ rows)
    np.testing.assert_allclose(found.grams["k"], (rows + 1).T @ (rows + 1), rtol=1e-5)


class Sometimes(Shared):
    def forward(self, x):
        other = x if len(x) > 2 else x + 1
        return self.q(x) + self.k(other)


def test_sites_that_share_an_input_only_sometimes_are_refused():
    batches = [batch(torch.randn(3, 4)), batch(torch.randn(2, 4))]
    with pytest.raises(UnsupportedModelError, match="read the same tensor in some calls") as caught:
        statistics(Sometimes(), batches)
    assert "compress.exclude" in str(caught.value)


class Twice(Shared):
    def forward(self, x):
        return self.q(torch.tanh(self.q(x)))


def test_a_layer_that_runs_twice_has_both_inputs():
    model, x = Twice(), torch.randn(6, 4)
    inner = torch.tanh(model.q(x)).detach().double().numpy()
    found = statistics(model, [batch(x)], curvature=True)
    assert found.calls == {"q": 2}
    both = x.double().numpy().T @ x.double().numpy() + inner.T @ inner
    np.testing.assert_allclose(found.grams["q"], both, rtol=1e-6)
    assert found.sums["q"][-1] == 12
    assert np.isfinite(found.curvatures["q"]).all()


def test_an_input_that_is_not_finite_names_the_layer(model):
    x = torch.randn(2, 3, 4)
    x[0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="the input of 'q' is not finite"):
        statistics(model, [batch(x, torch.ones(2, 3))])
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_padding_that_is_not_finite_does_not_matter(model):
    x = torch.randn(3, 5, 4)
    expected = statistics(model, [batch(x, MASK)]).grams["q"]
    x[~MASK.bool()] = float("inf")
    np.testing.assert_array_equal(statistics(model, [batch(x, MASK)]).grams["q"], expected)
