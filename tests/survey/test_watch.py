"""What the hooks add up for other layers than linears with a weight of their own (``test_statistics.py``)."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from edgelr.errors import DataError
from edgelr.lowrank.conv import empty_low_rank_conv
from edgelr.lowrank.conv_patches import patch_gram
from edgelr.survey import watch
from edgelr.survey.statistics import gather

MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])


def rows(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy().reshape(-1, tensor.shape[-1])


def watched(layer, batches, *, curvature=False, shared=None, run=None):
    def scalar(batch):
        return (layer(batch["x"]) if run is None else run(batch)).square().sum() / 2  # its gradient: itself

    sites = {"a": layer}
    return gather(sites, batches, scalar, curvature=curvature, shared={"a": shared or {}})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batch", "alone"])
def test_a_convolution_gives_its_outputs_its_gradients_and_its_columns(bias, batch):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(3, 4, (3, 5), stride=(1, 2), padding=1, bias=bias), torch.randn(*batch, 3, 8, 9)
    found = watched(conv, [{"x": x}, {"x": x + 1}], curvature=True)
    outputs = [conv(each).movedim(-3, -1) for each in (x, x + 1)]
    bare = np.concatenate([rows(output if conv.bias is None else output - conv.bias) for output in outputs])
    np.testing.assert_allclose(found.outputs["a"], bare.T @ bare, rtol=1e-5, atol=1e-4)
    gradients = np.concatenate([rows(output) for output in outputs])
    np.testing.assert_allclose(found.curvatures["a"], gradients.T @ gradients, rtol=1e-5, atol=1e-4)
    vertical = empty_low_rank_conv(conv, 1, "spatial").down
    images = x if batch else x[None]
    expected = sum(patch_gram(vertical, each) for each in (images, images + 1))
    np.testing.assert_allclose(found.columns["a"], expected / 2, rtol=1e-6)  # the stride skips every other
    assert found.rows["a"] == len(bare)
    assert found.inputs == {"a": "a"}


def test_a_convolution_over_time_leaves_padding_out():
    torch.manual_seed(0)
    conv, x = nn.Conv1d(3, 4, 3, padding=1), torch.randn(2, 3, 5)
    found = watched(conv, [{"x": x, "attention_mask": MASK}])
    kept = rows((conv(x) - conv.bias[:, None]).movedim(1, -1)[MASK.bool()])
    np.testing.assert_allclose(found.outputs["a"], kept.T @ kept, rtol=1e-5)
    assert found.rows["a"] == found.tokens == 5
    assert found.columns == {}


def test_an_embedding_counts_its_tokens():
    table, ids = nn.Embedding(7, 3), torch.tensor([[1, 2, 2, 0, 0], [5, 2, 0, 0, 0]])
    found = watched(table, [{"x": ids, "attention_mask": MASK}], curvature=True)
    assert found.counts["a"].tolist() == [0, 1, 3, 0, 0, 1, 0]
    kept = rows(table(ids)[MASK.bool()])
    np.testing.assert_allclose(found.curvatures["a"], kept.T @ kept, rtol=1e-5)
    assert watched(table, [{"x": ids}]).counts["a"].sum() == 10


def test_a_head_that_shares_the_table_gives_its_inputs_and_nothing_as_large_as_the_vocabulary():
    table, head = nn.Embedding(7, 3), nn.Linear(3, 7)
    head.weight = table.weight
    ids = torch.tensor([[1, 2], [3, 3]])
    found = watched(
        table,
        [{"x": ids}],
        curvature=True,
        shared={"head": head},
        run=lambda batch: head(torch.tanh(table(batch["x"]))),
    )
    hidden = rows(torch.tanh(table(ids)))
    np.testing.assert_allclose(found.heads["a"], hidden.T @ hidden, rtol=1e-5)
    assert found.counts["a"].sum() == 4
    assert found.curvatures == {}
    assert found.grams == {}


def test_modules_with_one_weight_add_up_their_inputs():
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    two.weight = one.weight
    x = torch.randn(5, 3)
    both = [{"x": x}]
    found = watched(one, both, shared={"two": two}, run=lambda batch: two(one(batch["x"])))
    expected = rows(x).T @ rows(x) + rows(one(x)).T @ rows(one(x))
    np.testing.assert_allclose(found.grams["a"], expected, rtol=1e-5)
    assert found.rows["a"] == found.sums["a"][-1] == 10
    # Another site may read what one of them reads.
    other = nn.Linear(3, 3)
    sites, shared = {"a": one, "b": other}, {"a": {"two": two}}
    apart = gather(
        sites, both, lambda b: (two(one(b["x"])) + other(b["x"])).sum(), curvature=False, shared=shared
    )
    assert apart.inputs == {"a": "a", "b": "b"}


def test_one_module_in_two_places_is_counted_once_a_call():
    layer, x = nn.Linear(3, 3), torch.randn(5, 3)
    assert watched(layer, [{"x": x}], shared={"again": layer}).rows["a"] == 5


def test_a_transposed_linear_is_watched_as_a_linear_by_position_or_by_name():
    layer, x = Conv1D(4, 3), torch.randn(5, 3)
    found = watched(layer, [{"x": x}], run=lambda batch: layer(x=batch["x"]))
    np.testing.assert_allclose(found.grams["a"], rows(x).T @ rows(x), rtol=1e-6)


def test_a_layer_too_wide_for_a_curvature_has_none(monkeypatch):
    monkeypatch.setattr(watch, "_WIDEST_CURVATURE", 3)
    assert watched(nn.Linear(2, 4), [{"x": torch.randn(5, 2)}], curvature=True).curvatures == {}


@pytest.mark.parametrize("what", ["output", "input"])
def test_what_is_not_finite_is_named(what):
    conv, x = nn.Conv2d(1, 2, 3), torch.randn(1, 1, 5, 5)
    if what == "output":
        nn.init.constant_(conv.bias, float("inf"))
    else:
        x[0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match=f"the {what} of 'a' is not finite"):
        watched(conv, [{"x": x}])


def test_a_gradient_that_is_not_finite_is_named():
    layer = nn.Linear(2, 2)
    with pytest.raises(DataError, match="the gradient at the output of 'a' is not finite"):
        watched(layer, [{"x": torch.ones(1, 2)}], curvature=True, run=lambda batch: layer(batch["x"]) * 1e38)
