"""Models whose matrices stay in their files, against the same ones loaded as a whole by transformers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.stored import StoredTensor
from edgelr.tasks import stored_model
from edgelr.tasks.stored_model import load_stored
from edgelr.tasks.text_generation_model import load_model


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is too large."""
    monkeypatch.setattr(stored_model, "LARGEST_SHARE", 0.0)


@pytest.fixture
def broken(make_causal: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the tiny model to break."""
    return Path(shutil.copytree(make_causal("llama"), tmp_path / "model"))


def sharded(model: nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder, max_shard_size="10KB")  # type: ignore[operator]
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


# Tied; without the prefix of its parts in the checkpoint; with parts in one matrix; with windows and caps.
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "gemma2"])
def test_it_computes_the_same_to_the_bit(
    family: str, make_causal: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = load_model(make_causal(family)).bfloat16()
    folder = sharded(half, tmp_path / "model")
    whole = load_model(folder)
    monkeypatch.setattr(stored_model, "LARGEST_SHARE", 0.0)
    kept = load_model(folder)
    matrices = [each for each in kept.parameters() if each.ndim > 1]
    assert all(isinstance(each, StoredTensor) for each in matrices)
    assert [name for name, _ in kept.named_parameters()] == [name for name, _ in whole.named_parameters()]
    ids = torch.arange(24).reshape(2, 12)
    assert torch.equal(kept(ids).logits, whole(ids).logits)
    assert not kept.training
    kept.to("cpu").requires_grad_(False)
    assert all(isinstance(each, StoredTensor) for each in kept.parameters() if each.ndim > 1)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():  # as the teacher of a tuning
        assert torch.equal(kept(ids).logits, whole(ids).logits)
    for settings in ("config", "generation_config"):
        assert getattr(kept, settings).to_dict() == getattr(whole, settings).to_dict()


def test_what_fits_is_loaded_as_a_whole(make_causal: Callable[[str], Path]) -> None:
    assert load_stored(make_causal("llama")) is None


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "damaged", "bin"])
def test_what_does_not_fit_its_configuration_is_left_to_the_ordinary_loader(
    broken: Path, change: str
) -> None:
    path = broken / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.mlp.up_proj.weight"
    match change:
        case "missing":
            del tensors[name]
        case "unknown":
            tensors["other"] = tensors[name].clone()
        case "shape":
            tensors[name] = tensors[name][:3].clone()
    save_file(tensors, path, metadata={"format": "pt"})
    if change == "damaged":
        path.write_bytes(path.read_bytes()[:1000])
    elif change == "bin":
        path.rename(broken / "pytorch_model.bin")
    assert load_stored(broken) is None
    with pytest.raises(UnsupportedModelError) as caught:
        load_model(broken)
    assert str(broken) in caught.value.found


@pytest.mark.usefixtures("no_room")
def test_a_weight_that_is_there_twice_must_be_the_same(broken: Path) -> None:
    path = broken / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, path, metadata={"format": "pt"})
    assert load_stored(broken) is not None
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    assert load_stored(broken) is None


@pytest.mark.usefixtures("no_room")
def test_weights_that_are_no_numbers_are_named(broken: Path) -> None:
    path = broken / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.down_proj.weight"][2, 2] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match=r"model'?.*layers\.1\.mlp\.down_proj"):
        load_model(broken)


def test_an_index_that_leads_out_of_the_folder_is_refused(
    make_causal: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sharded(load_model(make_causal("llama")), tmp_path / "model")
    index = folder / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"]["model.norm.weight"] = "../other.safetensors"
    index.write_text(json.dumps(document))
    monkeypatch.setattr(stored_model, "LARGEST_SHARE", 0.0)
    with pytest.raises(UnsupportedModelError, match="which is not a file of its folder"):
        load_model(folder)
