import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.lowrank import checkpoint
from edgelr.lowrank.checkpoint import check_finite, load_factored_into, save_factored
from edgelr.lowrank.reduce import restructure
from edgelr.structure import Reduction

REDUCTION = Reduction(form="low-rank", sites=("0",), rank=3)


def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


@pytest.fixture
def saved(tmp_path):
    model = dense()
    restructure(model, [REDUCTION])
    nn.init.normal_(model[0].up)
    nn.init.normal_(model[0].down)
    return model, save_factored(
        model, tmp_path / "f", reductions=[REDUCTION], method="plain", metrics={"cosine": 0.5}
    )


def test_a_loaded_model_computes_the_same(saved):
    model, factored = saved
    x = torch.randn(4, 6)
    assert torch.equal(load_factored_into(dense(), factored)(x), model(x))
    assert (factored.reductions, factored.method, factored.metrics) == (
        (REDUCTION,),
        "plain",
        {"cosine": 0.5},
    )


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_tensors_that_do_not_fit_are_refused(saved, change):
    path = saved[1].folder / "weights.safetensors"
    tensors = load_file(path)
    if change == "missing":
        del tensors["2.bias"]
    elif change == "unknown":
        tensors["9.bias"] = torch.zeros(2)
    else:
        tensors["2.bias"] = torch.zeros(7)
    save_file(tensors, path)
    with pytest.raises(DamagedArtifactError, match=r"weights.safetensors"):
        load_factored_into(dense(), saved[1])


def test_a_large_model_is_in_several_files(saved, tmp_path, monkeypatch):
    model, whole = saved
    monkeypatch.setattr(checkpoint, "FILE_BYTES", 100)
    parts = save_factored(model, tmp_path / "parts", reductions=[REDUCTION], method="plain")
    files = sorted(path.name for path in parts.folder.glob("*.safetensors"))
    assert files == ["weights-1.safetensors", "weights-2.safetensors", "weights.safetensors"]
    one, other = (load_factored_into(dense(), each).state_dict() for each in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    (parts.folder / files[0]).unlink()
    with pytest.raises(DamagedArtifactError, match="missing or unknown tensors"):
        load_factored_into(dense(), parts)


def test_a_truncated_file_is_refused(saved):
    path = saved[1].folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DamagedArtifactError, match=r"weights.safetensors"):
        load_factored_into(dense(), saved[1])


def test_a_weight_that_is_not_finite_is_named(tmp_path):
    model = dense()
    bad = copy.deepcopy(model)
    with torch.no_grad():
        bad[2].weight[0, 0] = float("nan")
    check_finite(model)
    with pytest.raises(UnsupportedModelError, match=r"'2\.weight' holds 1 values"):
        save_factored(bad, tmp_path, reductions=[], method="plain")


def test_a_dense_model_has_a_structure_without_reductions(tmp_path):
    model = dense()
    factored = save_factored(model, tmp_path, reductions=[], method="dense")
    assert factored.reductions == ()
    x = torch.randn(4, 6)
    assert torch.equal(load_factored_into(dense(), factored)(x), model(x))


def test_a_structure_of_another_model_is_refused(saved):
    with pytest.raises(UnsupportedModelError, match="'0', which is not a layer that can be factored"):
        load_factored_into(nn.Sequential(nn.ReLU(), nn.Linear(6, 6)), saved[1])
