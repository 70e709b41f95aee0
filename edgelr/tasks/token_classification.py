"""Task ``token-classification``: a tag for each word of a text, by a Hugging Face tagger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.examples import Tagged
from edgelr.metrics.tagging import tagging_scores
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.classify import LOGITS
from edgelr.runtime.labels import label_rows, write_labels
from edgelr.runtime.tagging import first_tokens, word_tags, word_tokens
from edgelr.runtime.text import pad_id, parse_tokenizer
from edgelr.tasks.encoder_folder import read_tokenizer
from edgelr.tasks.label_scores import check_one_label, label_loss, labels_of
from edgelr.tasks.order import batch_of_step
from edgelr.tasks.pretrained import load_pretrained
from edgelr.tasks.task import Arrays, Batch, GraphSpec, Loss, Outputs, Reading, Score
from edgelr.tasks.text_classification import UNUSED, ClassifierGraph, check_reach, run_classifier, token_table

__all__ = ["check_reach", "token_table"]

EXAMPLE = Tagged
SHRINKS_HEADS = "*"

_IGNORED = -100  # a token without a tag: what cross entropy leaves out


def load_model(folder: Path) -> nn.Module:
    """Load the tagger strictly, in evaluation mode, fp32.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged or unknown, or has less than two tags.
    """
    model: Any = load_pretrained(folder, "AutoModelForTokenClassification", "a tagger", UNUSED)
    check_one_label(model, folder)
    return cast(nn.Module, model.eval())


def seen_tokens(reading: Reading, examples: Sequence[Tagged]) -> set[int]:
    """Tokens of the texts, and those that the tokenizer adds by itself."""
    tokenizer = parse_tokenizer(read_tokenizer(reading.folder), reading.max_tokens)
    seen = {*tokenizer.get_added_tokens_decoder(), pad_id(tokenizer)}
    for each in examples:
        seen.update(tokenizer.encode(each.text.split(), is_pretokenized=True).ids)
    return seen


def batch_of(reading: Reading, examples: Sequence[Tagged], labels: Sequence[str] = ()) -> Batch:
    """Texts as one padded batch; with ``labels``, the tag of the first token of each word as ``labels``."""
    tokenizer = parse_tokenizer(read_tokenizer(reading.folder), reading.max_tokens)
    encodings = [tokenizer.encode(each.text.split(), is_pretokenized=True) for each in examples]
    shape = (len(encodings), max(len(each.ids) for each in encodings))
    ids, mask = np.full(shape, pad_id(tokenizer), np.int64), np.zeros(shape, np.int64)
    tags = np.full(shape, _IGNORED, np.int64)
    for row, (encoding, example) in enumerate(zip(encodings, examples, strict=True)):
        ids[row, : len(encoding.ids)], mask[row, : len(encoding.ids)] = encoding.ids, 1
        if labels:
            rows = label_rows(labels, example.tags.split())
            for at, tag in zip(first_tokens(encoding, len(rows)), rows, strict=True):
                if at is not None:
                    tags[row, at] = tag
    batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    return batch | ({"labels": torch.from_numpy(tags)} if labels else {})


def example_batches(reading: Reading, examples: Sequence[Tagged], size: int) -> list[Batch]:
    """The texts in batches of similar length, shortest first."""
    ordered = sorted(examples, key=lambda each: (len(each.text), each.id))
    return [batch_of(reading, ordered[at : at + size]) for at in range(0, len(ordered), size)]


def run(model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
    """Scores of the tags, ``[batch, tokens, tags]``, 0 where there is padding."""
    found = run_classifier(model, batch, hidden=hidden)
    mask = batch["attention_mask"].unsqueeze(-1).to(found.result.dtype)
    return Outputs(result=found.result * mask, hidden=found.hidden)


def distance(result: Tensor, reference: Tensor) -> Tensor:
    """Divergence of the tags' distributions from the reference's, a token, ``[batch]``."""
    own, theirs = result.log_softmax(-1), reference.log_softmax(-1)
    counted = reference.abs().sum(-1) > 0
    return (theirs.exp() * (theirs - own)).sum((-1, -2)) / counted.sum(-1).clamp_min(1)


def probe(result: Tensor) -> Tensor:
    """The log-probability of tags drawn from the result, of each token; see ``label_scores.py``."""
    log_shares = result.log_softmax(-1)
    flat = log_shares.detach().exp().flatten(0, -2)
    drawn = torch.multinomial(flat, 1).reshape(*log_shares.shape[:-1], 1)
    counted = (result.detach().abs().sum(-1) > 0).sum(-1).clamp_min(1)
    return (log_shares.gather(-1, drawn).sum((-1, -2)) / counted.sqrt()).sum()


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Tagged],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """Distillation of scores and hidden states, and cross entropy where it has weight; see ``Task``."""
    device, labels = next(teacher.parameters()).device, labels_of(teacher)
    lengths = tuple(len(each.text) for each in examples)
    hidden = settings.distill.hidden > 0

    def loss(model: nn.Module, number: int) -> Tensor:
        chosen = batch_of_step(lengths, settings.batch, seed, number)
        batch = batch_of(reading, [examples[index] for index in chosen], labels)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        mask = batch["attention_mask"].bool()
        with torch.no_grad():
            theirs = run(teacher, batch, hidden=hidden)
        own = run(model, batch, hidden=hidden)
        own, theirs = (replace(each, result=each.result[mask]) for each in (own, theirs))
        return label_loss(own, theirs, batch["labels"][mask], settings, batch["attention_mask"])

    return loss


def validator(dense: nn.Module, reading: Reading, examples: Sequence[Tagged]) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model: smooth, where accuracy is not."""
    batches = example_batches(reading, examples, 32)
    device = next(dense.parameters()).device

    @torch.inference_mode()
    def results(model: nn.Module) -> list[Tensor]:
        given = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
        return [run(model, batch).result for batch in given]

    references = results(dense)

    def score(model: nn.Module) -> float:
        found = [distance(*pair) for pair in zip(results(model), references, strict=True)]
        return -float(torch.cat(found).mean())

    return score


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Tagged]) -> Score:
    """Every metric, as ``validate`` measures them of packages."""
    right = [each.tags.split() for each in examples]
    references = tags_of(dense, reading, examples)

    def score(model: nn.Module) -> dict[str, float]:
        own = references if model is dense else tags_of(model, reading, examples)
        found = tagging_scores(own, right, references)
        return {metric: scores.value for metric, scores in found.items()}

    return score


@torch.inference_mode()
def tags_of(model: nn.Module, reading: Reading, examples: Sequence[Tagged]) -> list[list[str]]:
    """The tag of each word, one text a call."""
    tokenizer = parse_tokenizer(read_tokenizer(reading.folder), reading.max_tokens)
    device, labels, found = next(model.parameters()).device, labels_of(model), []
    for each in examples:
        inputs, firsts = word_tokens(tokenizer, each.text.split())
        batch = {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}
        scores = run(model, batch).result[0].float().cpu().numpy()
        found.append(word_tags([None if at is None else scores[at] for at in firsts], labels))
    return found


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """Where texts are cut."""
    return {"max_tokens": reading.max_tokens}


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Tagged],
    progress: Progress,
) -> Arrays:
    """Write tokenizer and tags; return the dense model's tags of the examples; see ``Task``."""
    (folder / "tokenizer.json").write_text(read_tokenizer(reading.folder), encoding="utf-8")
    write_labels(folder, labels_of(dense))
    lines = "\n".join(" ".join(tags) for tags in tags_of(dense, reading, examples))
    return {"dense_outputs": np.frombuffer(lines.encode("utf-8"), np.uint8)}


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Tagged]) -> list[GraphSpec]:
    """One graph: token ids and mask in, scores of the tags of every token out."""
    ordered = sorted(examples, key=lambda each: len(each.text))
    first, middle, last = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    groups = ([first, last], [middle], [first, last, middle])
    axes = {0: "batch", 1: "tokens"}
    return [
        GraphSpec(
            role="model",
            module=ClassifierGraph(model),
            cases=tuple(batch_of(reading, group) for group in groups),
            dynamic_axes={"input_ids": axes, "attention_mask": axes},
            outputs=(LOGITS,),
            output_axes={LOGITS: axes},
        )
    ]
