import numpy as np
import pytest
import torch

from edgelr.recipe.finetune import Distill
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


def test_embed_keeps_the_order_and_does_not_depend_on_the_batch(model, tokenizer):
    together = task.embed(model, tokenizer, TEXTS, 32)
    alone = np.concatenate([task.embed(model, tokenizer, [text], 32) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)  # fp32 sums in another order


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
