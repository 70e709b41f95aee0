"""A transformer, pooling and unit length."""

import json
import shutil

import pytest
import torch

from edgelr.errors import UnsupportedModelError
from edgelr.tasks.encoder_folder import read_tokenizer
from edgelr.tasks.sentence_embedding import batches
from edgelr.tasks.sentence_encoder import SentenceEncoder, distance, load_model, run

TEXTS = ["how do I copy a file", "sort", "To merge the list, call list_merge with its name."]


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def batch(tiny_model):
    (found,) = batches(read_tokenizer(tiny_model), TEXTS, max_tokens=32, size=3)
    assert (found["attention_mask"] == 0).any()
    return found


def test_a_plain_folder_is_at_rest_with_mean_pooling_and_unit_length(model):
    assert isinstance(model, SentenceEncoder)
    assert not model.training
    assert (model.pooling, model.normalize) == ("mean", True)


def test_mean_pooling_equals_one_by_hand(model, batch):
    with torch.inference_mode():
        states = model.transformer(**batch).last_hidden_state
        found = run(model, batch).result
    for row, mask in enumerate(batch["attention_mask"].bool()):
        mean = states[row][mask].mean(0)
        torch.testing.assert_close(found[row], mean / mean.norm())


@pytest.mark.parametrize("kind", ["cls", "max"])
def test_the_pooling_of_the_folder_is_used(tiny_model, tmp_path, kind):
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    name = {"cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}[kind]
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({name: True}))
    found = load_model(folder)
    assert (found.pooling, found.normalize) == (kind, False)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    with pytest.raises(UnsupportedModelError, match="pooling_mode_lasttoken"):
        load_model(folder)


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
def test_padding_changes_no_embedding(model, batch, pooling, normalize):
    encoder = SentenceEncoder(model.transformer, pooling, normalize=normalize)
    wider = {name: torch.nn.functional.pad(tensor, (0, 7)) for name, tensor in batch.items()}
    with torch.inference_mode():
        one, other = (run(encoder, each).result for each in (batch, wider))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)  # fp32 sums in another order
    lengths = one.norm(dim=-1)
    assert torch.allclose(lengths, torch.ones(3)) == normalize


def test_states_of_every_layer_are_kept_when_asked_for(model, batch):
    with torch.inference_mode():
        plain, full = run(model, batch), run(model, batch, hidden=True)
    assert plain.hidden == ()
    torch.testing.assert_close(full.result, plain.result)
    assert [tuple(states.shape) for states in full.hidden] == [(*batch["input_ids"].shape, 64)] * 2
    torch.testing.assert_close(model.pool(full.hidden[-1], batch["attention_mask"]), plain.result)


def test_the_distance_is_one_less_the_cosine():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    others = torch.tensor([[3.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    expected = torch.tensor([0.0, 2.0, 1 - 0.5**0.5])
    torch.testing.assert_close(distance(vectors, others), expected)
