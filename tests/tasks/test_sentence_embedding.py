import numpy as np
import pytest
import torch

from edgelr.errors import DataError
from edgelr.examples import Example
from edgelr.progress import Progress
from edgelr.recipe.finetune import Distill, Finetune
from edgelr.tasks import sentence_embedding as task
from edgelr.tasks.sentence_losses import distillation_loss, pair_loss
from edgelr.tasks.task import Outputs, Reading

TEXTS = ["how do I copy a file", "sort", "To merge the list, call list_merge with its name."]


@pytest.fixture(scope="module")
def model(tiny_model):
    return task.load_model(tiny_model)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return task.tokenizer_json(tiny_model)


def test_embed_keeps_the_order_and_does_not_depend_on_the_batch(model, tokenizer):
    together = task.embed(model, tokenizer, TEXTS, 32)
    alone = np.concatenate([task.embed(model, tokenizer, [text], 32) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)  # fp32 sums in another order


def test_a_student_that_equals_its_teacher_has_no_loss(model, tokenizer):
    (batch,) = task.batches(tokenizer, TEXTS, max_tokens=32, size=3)
    with torch.inference_mode():
        out = task.run(model, batch, hidden=True)
        loss = distillation_loss([out], [out], [batch], Distill())
        other = Outputs(result=out.result.flip(0), hidden=out.hidden)
        assert float(loss) == pytest.approx(0, abs=1e-6)  # a cosine in fp32 is 1 within rounding
        assert float(distillation_loss([other], [out], [batch], Distill())) > 0.01


def test_pairs_that_match_have_the_lower_loss():
    vectors = torch.eye(4)
    assert pair_loss(vectors, vectors) < pair_loss(vectors, vectors.flip(0))


# --- losses ---------------------------------------------------------------------------------------


def loss_of(model, folder, examples, task_loss, tmp_path):
    settings = Finetune(steps=4, batch=2, task_loss=task_loss)
    reading = Reading(folder=folder, max_tokens=32)
    return task.losses(model, reading, examples, settings, 0, tmp_path, Progress(quiet=True))


def test_with_a_task_loss_every_other_step_is_of_pairs(model, tiny_model, tmp_path):
    examples = [Example(id=text, group="a", passage=text, query=text[:9]) for text in TEXTS]
    examples.append(Example(id="alone", group="a", passage="nothing asks for it"))
    own = loss_of(model, tiny_model, examples, 1.0, tmp_path)
    with torch.inference_mode():
        values = [float(own(model, step)) for step in range(4)]
    # The model is its own teacher: what is left of the loss is the task's.
    assert values[::2] == pytest.approx([0, 0], abs=1e-5)
    assert min(values[1::2]) > 1e-3


def test_texts_are_cut_for_tuning_alone(model, tiny_model, tmp_path):
    long = " ".join(TEXTS * 4)
    reading = Reading(folder=tiny_model, max_tokens=32)
    seen = []
    hook = model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    for longest in (None, 8, 99):
        settings = Finetune(steps=4, batch=2, max_tokens=longest)
        examples = [Example(id=str(n), group="a", passage=f"{long} {n}") for n in range(2)]
        task.losses(model, reading, examples, settings, 0, tmp_path, Progress(quiet=True))(model, 0)
    hook.remove()
    assert seen == [32, 32, 8, 8, 32, 32]


def test_a_task_loss_needs_pairs(model, tiny_model, tmp_path):
    examples = [Example(id=text, group="a", passage=text) for text in TEXTS]
    with pytest.raises(DataError, match=r"of 3 examples 0 are pairs"):
        loss_of(model, tiny_model, examples, 1.0, tmp_path)
