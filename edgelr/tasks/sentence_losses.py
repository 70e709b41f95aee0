"""What a sentence encoder is tuned on: its embeddings, against the dense model's and against each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgelr.recipe.finetune import Distill, Finetune
from edgelr.tasks.sentence_encoder import distance, run
from edgelr.tasks.task import Batch, Outputs

_CONTRASTIVE_SCALE = 20.0  # inverse temperature that sentence-transformers trains with


def step_loss(
    student: nn.Module,
    teacher: nn.Module,
    batch: Batch,
    pairs: tuple[Batch, Batch] | None,
    settings: Finetune,
) -> Tensor:
    """Distillation from the dense model, plus the task's own loss where the recipe gives it weight.

    Args:
        student: The factored model.
        teacher: The dense model.
        batch: Texts.
        pairs: Queries and their passages, when there is a task loss.
        settings: The weights of the losses.
    """
    hidden = settings.distill.hidden > 0
    with torch.inference_mode():
        target = run(teacher, batch, hidden=hidden)
    loss = distillation_loss(run(student, batch, hidden=hidden), target, batch, settings.distill)
    if pairs is not None:
        queries, passages = (run(student, side).result for side in pairs)
        loss = loss + settings.task_loss * pair_loss(queries, passages)
    return loss


def distillation_loss(student: Outputs, teacher: Outputs, batch: Batch, weights: Distill) -> Tensor:
    """Weighted sum of embedding cosine, similarity matrix and hidden states.

    The similarity matrix ``[batch, batch]`` is what retrieval ranks by; hidden states, relative to the
    teacher's energy of the layer, give every layer a target of its own.

    Source:
        Reimers and Gurevych, Making Monolingual Sentence Embeddings Multilingual (EMNLP 2020);
        Jiao et al., TinyBERT (2020), eq. 8, for hidden states.
    """
    loss = weights.embedding * distance(student.result, teacher.result).mean()
    similar = student.result @ student.result.T - teacher.result @ teacher.result.T
    loss = loss + weights.similarity * similar.square().mean()
    if weights.hidden and student.hidden:
        mask = batch["attention_mask"].unsqueeze(-1).to(student.result.dtype)
        errors = [
            ((mine - theirs) * mask).square().sum() / (theirs * mask).square().sum()
            for mine, theirs in zip(student.hidden, teacher.hidden, strict=True)
        ]
        loss = loss + weights.hidden * torch.stack(errors).mean()
    return loss


def pair_loss(queries: Tensor, passages: Tensor) -> Tensor:
    """Contrastive loss: each query's own passage against the others of the batch.

    Source:
        van den Oord et al., Representation Learning with Contrastive Predictive Coding (2018), eq. 4.
    """
    scores = nn.functional.normalize(queries, dim=-1) @ nn.functional.normalize(passages, dim=-1).T
    labels = torch.arange(len(queries), device=queries.device)
    return nn.functional.cross_entropy(scores * _CONTRASTIVE_SCALE, labels)
