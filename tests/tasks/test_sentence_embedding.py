import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgelr.errors import UnsupportedModelError
from edgelr.recipe.schema import Distill
from edgelr.tasks import sentence_embedding as task
from edgelr.tasks.sentence_losses import distillation_loss, pair_loss
from edgelr.tasks.task import Outputs

TEXTS = ["how do I copy a file", "sort", "To merge the list, call list_merge with its name."]


@pytest.fixture(scope="module")
def model(tiny_model):
    return task.load_model(tiny_model)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return task.tokenizer_json(tiny_model)


def test_mean_pooling_equals_one_by_hand(model, tokenizer):
    (batch,) = task.batches(tokenizer, TEXTS, max_tokens=32, size=3)
    with torch.inference_mode():
        states = model.transformer(**batch).last_hidden_state
        found = task.run(model, batch).result
    for row, mask in enumerate(batch["attention_mask"].bool()):
        mean = states[row][mask].mean(0)
        torch.testing.assert_close(found[row], mean / mean.norm())


def test_embed_keeps_the_order_and_does_not_depend_on_the_batch(model, tokenizer):
    together = task.embed(model, tokenizer, TEXTS, 32)
    alone = np.concatenate([task.embed(model, tokenizer, [text], 32) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)  # fp32 sums in another order


@pytest.mark.parametrize("kind", ["cls", "max"])
def test_the_pooling_of_the_folder_is_used(tiny_model, tmp_path, kind):
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    name = {"cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}[kind]
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({name: True}))
    found = task.load_model(folder)
    assert (found.pooling, found.normalize) == (kind, False)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    with pytest.raises(UnsupportedModelError, match="pooling_mode_lasttoken"):
        task.load_model(folder)


@pytest.mark.parametrize("change", ["missing", "unexpected", "nan", "truncated"])
def test_a_checkpoint_that_does_not_fit_is_refused(tiny_model, tmp_path, change):
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.layer.0.output.dense.weight"
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        tensors["encoder.layer.9.output.dense.weight"] = torch.zeros(2, 2)
    elif change == "nan":
        tensors[name][0, 0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    words = {"nan": "not finite", "truncated": "cannot be loaded"}.get(change, change)
    with pytest.raises(UnsupportedModelError, match=words):
        task.load_model(folder)


class Payload:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickled_payload_is_never_executed(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    target = tmp_path / "executed"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(str(target))))
    with pytest.raises(UnsupportedModelError, match="cannot be loaded"):
        task.load_model(folder)
    assert not target.exists()


def test_a_student_that_equals_its_teacher_has_no_loss(model, tokenizer):
    (batch,) = task.batches(tokenizer, TEXTS, max_tokens=32, size=3)
    with torch.inference_mode():
        out = task.run(model, batch, hidden=True)
        loss = distillation_loss(out, out, batch, Distill())
        other = Outputs(result=out.result.flip(0), hidden=out.hidden)
        assert float(loss) == pytest.approx(0, abs=1e-6)  # a cosine in fp32 is 1 within rounding
        assert float(distillation_loss(other, out, batch, Distill())) > 0.01


def test_pairs_that_match_have_the_lower_loss():
    vectors = torch.eye(4)
    assert pair_loss(vectors, vectors) < pair_loss(vectors, vectors.flip(0))
