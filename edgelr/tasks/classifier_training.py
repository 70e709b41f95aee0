"""Train a classifier of texts from an encoder, for a recipe that says ``model: {train: ...}``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgelr.artifacts import Split
from edgelr.errors import DivergedError, UnsupportedModelError
from edgelr.examples import AnyExample, Labeled
from edgelr.progress import Progress
from edgelr.recipe.schema import TrainClassifier
from edgelr.runtime.text import batch_tokens, parse_tokenizer
from edgelr.tasks.arithmetic import same_sums
from edgelr.tasks.encoder_folder import load_transformer, read_tokenizer
from edgelr.tasks.order import epoch_batches
from edgelr.tasks.task import Reading

_WARMUP = 0.1  # share of the steps
_CLIP_NORM = 1.0


def train_classifier(
    settings: TrainClassifier,
    reading: Reading,
    splits: Mapping[Split, Sequence[AnyExample]],
    folder: Path,
    seed: int,
    progress: Progress,
) -> None:
    """Give an encoder a new head, train both by cross entropy, and write a Hugging Face folder.

    The last weights count. The seed decides everything: in fp32, whatever else the hardware has.

    Args:
        settings: The recipe's section.
        reading: The encoder's folder, and where texts are cut.
        splits: Labeled texts; ``train`` is trained on, and the labels are those of all.
        folder: Where the model is written.
        seed: Of the head, of dropout and of the order.
        progress: Where to show how far it is.

    Raises:
        DivergedError: The loss is not finite.
        UnsupportedModelError: The folder is no encoder, or of a kind that is not known with such a head.
    """
    labels = sorted({each.label for split in splits.values() for each in split if isinstance(each, Labeled)})
    torch.manual_seed(seed)
    model = with_head(reading.folder, labels)
    train = [each for each in splits["train"] if isinstance(each, Labeled)]
    with same_sums():
        _fit(model, settings, reading, (train, labels), seed, progress)
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder)
    save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_text(read_tokenizer(reading.folder), encoding="utf-8")


def with_head(folder: Path, labels: Sequence[str]) -> Any:  # noqa: ANN401 - a class of transformers
    """A classifier whose encoder is the folder's, and whose head is new.

    Args:
        folder: Of a Hugging Face encoder.
        labels: In the order of the scores.

    Raises:
        UnsupportedModelError: It is no encoder, or transformers knows no classifier of its kind.
    """
    from transformers import AutoModelForSequenceClassification

    encoder: Any = load_transformer(folder)
    config = copy.deepcopy(encoder.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    try:
        model: Any = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise UnsupportedModelError(
            f"{folder} is a {type(encoder).__name__}, of which there is no classifier of texts",
            "give a model such as BERT, RoBERTa or DistilBERT",
        ) from error
    model.config.architectures = [type(model).__name__]
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)  # BERT's pooler is of the head
    return model


def _fit(
    model: Any,  # noqa: ANN401 - a class of transformers
    settings: TrainClassifier,
    reading: Reading,
    texts: tuple[Sequence[Labeled], Sequence[str]],
    seed: int,
    progress: Progress,
) -> None:
    examples, labels = texts
    tokenizer = parse_tokenizer(read_tokenizer(reading.folder), reading.max_tokens)
    numbers = {label: number for number, label in enumerate(labels)}
    lengths = tuple(len(each.text) for each in examples)
    batches = [
        batch
        for epoch in range(settings.epochs)
        for batch in epoch_batches(lengths, settings.batch, seed, epoch)
    ]
    rate = settings.learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=len(batches) + 1, pct_start=_WARMUP
    )
    model.train()
    with progress.bar("training the dense model", len(batches)) as advance:
        for step, batch in enumerate(batches):
            arrays = batch_tokens(tokenizer, [examples[index].text for index in batch])
            given = {name: torch.from_numpy(array) for name, array in arrays.items()}
            target = torch.tensor([numbers[examples[index].label] for index in batch])
            loss = nn.functional.cross_entropy(model(**given).logits, target)
            _step(model, optimizer, loss, step)
            schedule.step()
            advance(note=f"loss {loss.item():.3f}")


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, step: int) -> None:
    if not torch.isfinite(loss):
        raise DivergedError(
            f"model.train: the loss is {loss.item()} in step {step + 1}", "lower model.train.learning_rate"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), _CLIP_NORM)
    optimizer.step()
