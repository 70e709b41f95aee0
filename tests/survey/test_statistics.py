import numpy as np
import pytest
import torch
from torch import nn

from edgelr.errors import DataError
from edgelr.survey.statistics import gather


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.o, self.unused = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        return self.o(self.q(x) + self.k(x))


def statistics(model, batches):
    sites = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return gather(sites, batches, lambda batch: model(batch["x"]))


def batch(x, mask):
    return {"x": x, "attention_mask": mask}


def test_equals_numpy_on_the_unmasked_rows_however_they_are_padded():
    torch.manual_seed(0)
    model, x = Shared(), torch.randn(3, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
    rows = x[mask.bool()].double().numpy()
    found = statistics(model, [batch(x, mask)])
    np.testing.assert_allclose(found.grams["q"], rows.T @ rows, rtol=1e-12)
    assert found.tokens == 9
    padded = torch.cat([x, torch.full((3, 2, 4), 99.0)], dim=1)
    longer = torch.cat([mask, torch.zeros(3, 2, dtype=mask.dtype)], dim=1)
    one_by_one = [batch(padded[n : n + 1], longer[n : n + 1]) for n in range(3)]
    np.testing.assert_allclose(statistics(model, one_by_one).grams["q"], found.grams["q"], rtol=1e-12)


def test_sites_that_read_the_same_tensor_share_a_gram():
    found = statistics(Shared(), [batch(torch.randn(2, 3, 4), torch.ones(2, 3))])
    assert found.inputs == {"q": "q", "k": "q", "o": "o"}
    assert set(found.grams) == {"q", "o"}


def test_an_input_that_is_not_finite_names_the_layer():
    x = torch.randn(2, 3, 4)
    x[0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="the input of 'q' is not finite"):
        statistics(Shared(), [batch(x, torch.ones(2, 3))])
