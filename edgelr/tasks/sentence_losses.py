"""What a sentence encoder is tuned on: its embeddings, against the dense model's and against each other."""

from __future__ import annotations

from collections.abc import Sequence

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
    queries: Batch | None,
    settings: Finetune,
) -> Tensor:
    """Distillation from the dense model, plus the task's own loss where there are queries.

    Queries are a batch of their own, as they are short, and are distilled like every other text.

    Args:
        student: The factored model.
        teacher: The dense model.
        batch: Texts; passages, when there are queries.
        queries: What each passage answers; None for texts without, and then there is no task loss.
        settings: The weights of the losses.
    """
    batches = [batch] if queries is None else [batch, queries]
    hidden = settings.distill.hidden > 0
    with torch.inference_mode():
        targets = [run(teacher, each, hidden=hidden) for each in batches]
    found = [run(student, each, hidden=hidden) for each in batches]
    loss = distillation_loss(found, targets, batches, settings.distill)
    if queries is not None:
        loss = loss + settings.task_loss * pair_loss(found[1].result, found[0].result)
    return loss


def distillation_loss(
    student: Sequence[Outputs], teacher: Sequence[Outputs], batches: Sequence[Batch], weights: Distill
) -> Tensor:
    """Weighted sum of embedding cosine, similarity matrix and hidden states.

    The similarity matrix ``[texts, texts]`` of all batches together is what retrieval ranks by; hidden
    states, relative to the teacher's energy of the layer, give every layer a target of its own.

    Args:
        student: Its outputs of each batch.
        teacher: Likewise.
        batches: The tokens; padding has no hidden states to learn.
        weights: Of each part.

    Source:
        Reimers and Gurevych, Making Monolingual Sentence Embeddings Multilingual (EMNLP 2020);
        Jiao et al., TinyBERT (2020), eq. 8, for hidden states.
    """
    mine, theirs = (torch.cat([each.result for each in outputs]) for outputs in (student, teacher))
    loss = weights.embedding * distance(mine, theirs).mean()
    loss = loss + weights.similarity * (mine @ mine.T - theirs @ theirs.T).square().mean()
    if weights.hidden and all(each.hidden for each in student):
        parts = [_hidden_errors(*each) for each in zip(student, teacher, batches, strict=True)]
        errors, energies = (torch.stack(each).sum(0) for each in zip(*parts, strict=True))
        loss = loss + weights.hidden * (errors / energies).mean()
    return loss


def _hidden_errors(student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
    """Squared error and the teacher's energy of every layer, both ``[layers]``."""
    mask = batch["attention_mask"].unsqueeze(-1).to(student.result.dtype)
    pairs = list(zip(student.hidden, teacher.hidden, strict=True))
    errors = torch.stack([((mine - theirs) * mask).square().sum() for mine, theirs in pairs])
    return errors, torch.stack([(theirs * mask).square().sum() for _, theirs in pairs])


def pair_loss(queries: Tensor, passages: Tensor) -> Tensor:
    """Contrastive loss: each query's own passage against the others of the batch.

    Source:
        van den Oord et al., Representation Learning with Contrastive Predictive Coding (2018), eq. 4.
    """
    scores = nn.functional.normalize(queries, dim=-1) @ nn.functional.normalize(passages, dim=-1).T
    labels = torch.arange(len(queries), device=queries.device)
    return nn.functional.cross_entropy(scores * _CONTRASTIVE_SCALE, labels)
