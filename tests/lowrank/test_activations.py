import pytest
import torch
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.activations import put_relu, rectify
from edgelr.lowrank.checkpoint import load_factored_into, save_factored


def model() -> nn.Module:
    torch.manual_seed(0)
    shared = nn.GELU()
    return nn.Sequential(nn.Linear(6, 6), shared, nn.Linear(6, 6), shared, nn.Tanh(), nn.GELU("tanh"))


def test_every_gelu_is_replaced_and_nothing_else():
    changed = model()
    assert rectify(changed) == ("1", "3", "5"), "two places may have one module"
    assert [type(each).__name__ for each in changed] == ["Linear", "ReLU", "Linear", "ReLU", "Tanh", "ReLU"]


def test_forms_of_transformers_are_known():
    from transformers.activations import ACT2FN

    names = [name for name in ACT2FN if "gelu" in name]
    assert len(names) > 5
    assert len(rectify(nn.ModuleDict({name: ACT2FN[name] for name in names}))) == len(names)


def test_a_saved_model_computes_the_same(tmp_path):
    changed = model()
    factored = save_factored(changed, tmp_path, reductions=[], method="tuned", rectified=rectify(changed))
    assert factored.rectified == ("1", "3", "5")
    x = torch.randn(4, 6)
    loaded = load_factored_into(model(), factored)
    assert torch.equal(loaded(x), changed(x))
    assert not torch.equal(loaded(x), model()(x))


def test_a_model_without_gelu_is_refused():
    with pytest.raises(UnsupportedModelError, match="no GELU that is a module"):
        rectify(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


@pytest.mark.parametrize("name", ["0", "9"])
def test_another_models_structure_is_refused(name):
    with pytest.raises(UnsupportedModelError, match=f"'{name}', which is no GELU"):
        put_relu(model(), [name])
