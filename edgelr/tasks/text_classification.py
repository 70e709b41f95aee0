"""Task ``text-classification``: a text to one of the labels of a Hugging Face classifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Labeled
from edgelr.kinds.text_classification import DENSE
from edgelr.metrics.classification import classification_scores
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.classify import LOGITS
from edgelr.runtime.labels import label_rows, write_labels
from edgelr.runtime.text import batch_tokens, pad_id, parse_tokenizer
from edgelr.tasks.encoder_folder import read_tokenizer
from edgelr.tasks.label_scores import check_one_label, distance, label_loss, labels_of, nearness, probe
from edgelr.tasks.order import batch_of_step
from edgelr.tasks.pretrained import load_pretrained
from edgelr.tasks.sentence_embedding import batches
from edgelr.tasks.task import Arrays, Batch, GraphSpec, Loss, Outputs, Reading, Score
from edgelr.tasks.text_reach import check_text_reach

__all__ = ["distance", "probe"]

EXAMPLE = Labeled
SHRINKS_HEADS = "*"

_MASKED = -1.0e9  # added to the scores of padding; finite, so that a fully masked row is no NaN
_ROWS = 32
# Heads of pre-training that a checkpoint may still have, and buffers of old releases.
UNUSED = (
    "cls.",
    "lm_head.",
    "vocab_",
    "position_ids",
    "embeddings.position_ids",
    "discriminator_predictions.",
)


def load_model(folder: Path) -> nn.Module:
    """Load the classifier strictly, in evaluation mode, fp32.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged or unknown, or does not choose a label of a text.
    """
    model: Any = load_pretrained(folder, "AutoModelForSequenceClassification", "a classifier", UNUSED)
    if "input_ids" not in inspect.signature(model.forward).parameters or model.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{folder} is a {type(model).__name__}, which is no encoder of texts",
            "give a model such as BERT, RoBERTa or DistilBERT with a classification head",
        )
    check_one_label(model, folder)
    return cast(nn.Module, model.eval())


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Check that the model can read every token, ``max_tokens`` of them at once; see ``Task``."""
    check_text_reach(cast(nn.Module, model.base_model), reading)


def token_table(model: nn.Module) -> nn.Module:
    """The word embeddings."""
    encoder: Any = model
    table: nn.Module = encoder.get_input_embeddings()
    return table


def seen_tokens(reading: Reading, examples: Sequence[Labeled]) -> set[int]:
    """Tokens of the texts, and those that the tokenizer adds by itself."""
    tokenizer = parse_tokenizer(read_tokenizer(reading.folder), reading.max_tokens)
    seen = {*tokenizer.get_added_tokens_decoder(), pad_id(tokenizer)}
    for encoding in tokenizer.encode_batch([each.text for each in examples]):
        seen.update(encoding.ids)
    return seen


def example_batches(reading: Reading, examples: Sequence[Labeled], size: int) -> list[Batch]:
    """The texts in batches of similar length, shortest first."""
    texts = [each.text for each in examples]
    return batches(read_tokenizer(reading.folder), texts, max_tokens=reading.max_tokens, size=size)


def run(model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
    """Scores of the labels, ``[batch, labels]``; with ``hidden``, also every layer's states."""
    return run_classifier(model, batch, hidden=hidden)


def run_classifier(model: nn.Module, batch: Batch, *, hidden: bool) -> Outputs:
    """Scores that a Hugging Face classifier gives, of texts or of each token."""
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    out = model(**given, output_hidden_states=hidden)
    return Outputs(result=out.logits, hidden=tuple(out.hidden_states[1:]) if hidden else ())


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Labeled],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """Distillation of scores and hidden states, and cross entropy where it has weight; see ``Task``.

    Raises:
        DataError: There is a task loss, and a label that the model does not have.
    """
    tokenizer = parse_tokenizer(read_tokenizer(reading.folder), reading.max_tokens)
    device = next(teacher.parameters()).device
    lengths = tuple(len(each.text) for each in examples)
    labels = label_rows(labels_of(teacher), [each.label for each in examples])
    weights = settings.distill

    def loss(model: nn.Module, number: int) -> Tensor:
        chosen = batch_of_step(lengths, settings.batch, seed, number)
        arrays = batch_tokens(tokenizer, [examples[index].text for index in chosen])
        batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        with torch.no_grad():
            theirs = run(teacher, batch, hidden=weights.hidden > 0)
        own = run(model, batch, hidden=weights.hidden > 0)
        target = torch.tensor([labels[index] for index in chosen], device=device)
        return label_loss(own, theirs, target, settings, batch["attention_mask"])

    return loss


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Labeled]
) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model: smooth, where accuracy is not."""
    texts = [each.text for each in examples]
    return nearness(dense, lambda model: scores_of(model, reading, texts))


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Labeled]) -> Score:
    """Mean of every metric, as ``validate`` measures them of packages."""
    texts = [each.text for each in examples]
    labels = np.array(label_rows(labels_of(dense), [each.label for each in examples]), np.int64)
    references = scores_of(dense, reading, texts)

    def score(model: nn.Module) -> dict[str, float]:
        own = references if model is dense else scores_of(model, reading, texts)
        found = classification_scores(own, references, labels)
        return {metric: scores.value for metric, scores in found.items()}

    return score


@torch.inference_mode()
def scores_of(model: nn.Module, reading: Reading, texts: Sequence[str]) -> NDArray[np.float32]:
    """Scores of the labels, ``[texts, labels]``, in the order of the texts."""
    tokenizer = parse_tokenizer(read_tokenizer(reading.folder), reading.max_tokens)
    device, found = next(model.parameters()).device, []
    for start in range(0, len(texts), _ROWS):
        arrays = batch_tokens(tokenizer, texts[start : start + _ROWS])
        batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        found.append(run(model, batch).result.float().cpu().numpy())
    return np.concatenate(found)


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """Where texts are cut."""
    return {"max_tokens": reading.max_tokens}


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Labeled],
    progress: Progress,
) -> Arrays:
    """Write tokenizer and labels; return the dense model's scores of the examples; see ``Task``."""
    (folder / "tokenizer.json").write_text(read_tokenizer(reading.folder), encoding="utf-8")
    write_labels(folder, labels_of(dense))
    return {DENSE: scores_of(dense, reading, [each.text for each in examples])}


class ClassifierGraph(nn.Module):
    """A classifier as it is exported; the additive mask is made here, see ``export/graphs.py``.

    Args:
        model: A Hugging Face classifier.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores of the labels for ``input_ids [batch, tokens]`` under ``attention_mask [batch, tokens]``."""
        bias = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * _MASKED
        scores: Tensor = self.model(input_ids=input_ids, attention_mask=bias).logits
        return scores


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Labeled]) -> list[GraphSpec]:
    """One graph: token ids and mask in, scores of the labels out; cases as of ``sentence-embedding``."""
    tokenizer = parse_tokenizer(read_tokenizer(reading.folder), reading.max_tokens)
    texts = sorted((each.text for each in examples), key=lambda text: len(tokenizer.encode(text).ids))
    middle, longest = texts[len(texts) // 2], " ".join(texts[: max(1, reading.max_tokens // 4)])
    groups = ([texts[0], middle], [middle], [texts[0], longest, middle])
    axes = {0: "batch", 1: "tokens"}
    return [
        GraphSpec(
            role="model",
            module=ClassifierGraph(model),
            cases=tuple(
                {name: torch.from_numpy(array) for name, array in batch_tokens(tokenizer, group).items()}
                for group in groups
            ),
            dynamic_axes={"input_ids": axes, "attention_mask": axes},
            outputs=(LOGITS,),
            output_axes={LOGITS: {0: "batch"}},
        )
    ]
