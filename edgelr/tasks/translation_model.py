"""The model of the task ``translation``: an encoder-decoder of transformers, its tokenizer, its batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.examples import Translation
from edgelr.tasks.pretrained import load_pretrained, read_json, reason_of
from edgelr.tasks.sequence_losses import TARGETS, outputs_from
from edgelr.tasks.task import Batch, Outputs, Reading

_IGNORED = -100  # of labels: what is no target


def load_model(folder: Path) -> nn.Module:
    """Load an encoder-decoder strictly, in evaluation mode, fp32.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged, is no encoder-decoder of texts, or does not say with
            which token a translation starts.
    """
    config = read_json(folder / "config.json")
    if isinstance(config, dict) and not config.get("is_encoder_decoder", True):
        raise UnsupportedModelError(
            f"{folder} is no encoder-decoder: it cannot translate", "give a model such as Marian, T5 or mBART"
        )
    model: Any = load_pretrained(folder, "AutoModelForSeq2SeqLM", "a translation model")
    # generate() and the package look nowhere else.
    model.generation_config.decoder_start_token_id = start_token(folder)
    return model.eval()  # type: ignore[no-any-return]


def start_token(folder: Path) -> int:
    """The token that every translation starts with, as the folder's files say.

    A model that was loaded says one in any case: where the files have none, its class has a default, which
    may not even be a token.

    Args:
        folder: Has ``generation_config.json`` or ``config.json``; the first one counts more.

    Raises:
        UnsupportedModelError: Neither says it.
    """
    for name in ("generation_config.json", "config.json"):
        document = read_json(folder / name) if (folder / name).is_file() else {}
        start = document.get("decoder_start_token_id") if isinstance(document, dict) else None
        if isinstance(start, int):
            return start
    raise UnsupportedModelError(
        f"{folder} does not say with which token a translation starts (decoder_start_token_id)",
        "add decoder_start_token_id to its generation_config.json",
    )


@functools.lru_cache(maxsize=4)
def tokenizer_of(reading: Reading) -> Any:  # noqa: ANN401 - transformers is not typed
    """The folder's tokenizer, for the reading's languages.

    Raises:
        UnsupportedModelError: There is none.
        UsageError: The model knows no such language.
    """
    from transformers import AutoTokenizer

    folder = reading.folder
    languages = {"src_lang": reading.source_language, "tgt_lang": reading.target_language}
    given = {name: code for name, code in languages.items() if code is not None}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **given
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        if isinstance(error, KeyError) and error.args[0] in given.values():  # M2M100 looks them up
            raise _unknown_language(folder, error.args[0]) from error
        raise UnsupportedModelError(
            f"{folder} has no usable tokenizer: {reason_of(error)}", "get the model's tokenizer files again"
        ) from error
    for code in given.values():
        if _language_id(tokenizer, code) is None:
            raise _unknown_language(folder, code)
    return tokenizer


def _unknown_language(folder: Path, code: str) -> UsageError:
    return UsageError(
        f"task: the model of {folder} knows no language {code!r}",
        "give a code of its model card, such as 'en', 'en_XX' or 'eng_Latn'",
    )


def _language_id(tokenizer: Any, code: str) -> int | None:  # noqa: ANN401 - transformers is not typed
    """The token of a language: a special one, since a piece of a word may well be spelled ``de``."""
    special = tokenizer.get_added_vocab()
    return next((int(special[name]) for name in (f"__{code}__", code) if name in special), None)


def language_token(reading: Reading) -> int:
    """The token of the language to translate to."""
    found = _language_id(tokenizer_of(reading), str(reading.target_language))
    assert found is not None, "tokenizer_of has looked it up"
    return found


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Check that the model knows every token of its tokenizer, and a position for each of ``max_tokens``.

    Raises:
        UsageError: The model has fewer positions.
        UnsupportedModelError: The model has fewer tokens.
    """
    tokenizer = tokenizer_of(reading)
    known = token_table(model).weight.shape[0]
    highest = max(tokenizer.get_vocab().values())
    if highest >= int(known):
        raise UnsupportedModelError(
            f"the tokenizer has a token {highest}, and the model knows {known} tokens",
            "tokenizer and weights do not belong together; get the model again",
        )
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and reading.max_tokens > positions:
        raise UsageError(
            f"task.max_tokens: {reading.max_tokens} was asked for, the model has {positions} positions",
            f"set it to at most {positions}",
        )


def token_table(model: nn.Module) -> Any:  # noqa: ANN401 - a module whose weight is a tensor
    """The layer that looks the source's tokens up, dense or factored."""
    return model.get_input_embeddings()  # type: ignore[operator]


def example_batches(reading: Reading, examples: Sequence[Translation], size: int) -> list[Batch]:
    """Batches of similar length, shortest first; targets are the references."""
    order = sorted(examples, key=lambda example: (len(example.source) + len(example.target), example.id))
    return [collate(reading, order[start : start + size]) for start in range(0, len(order), size)]


def collate(reading: Reading, examples: Sequence[Translation]) -> Batch:
    """Examples as one padded batch, in their order.

    Sources and targets never have the same padded length: a mask belongs to whatever has its shape, and what
    runs over sources has another mask than what runs over targets.

    Args:
        reading: How texts become tokens.
        examples: At least one.

    Returns:
        ``input_ids`` and ``attention_mask`` ``[batch, source]``; ``decoder_input_ids``, ``labels`` (-100 for
        padding) and ``decoder_attention_mask`` ``[batch, target]``.
    """
    tokenizer = tokenizer_of(reading)
    sources = tokenizer(
        [reading.prefix + example.source for example in examples],
        max_length=reading.max_tokens,
        truncation=True,
    )["input_ids"]
    # The start token counts too: what a package writes is as long at most, and one more is left to differ.
    targets = tokenizer(
        text_target=[example.target for example in examples],
        max_length=reading.max_tokens - 1,
        truncation=True,
    )["input_ids"]
    pad, start = tokenizer.pad_token_id, _start_of(reading)
    width, length = max(map(len, sources)), max(map(len, targets))
    length += length == width
    shifted = [[start, *target[:-1]] for target in targets]
    return {
        "input_ids": _padded(sources, width, pad),
        "attention_mask": _padded([[1] * len(row) for row in sources], width, 0),
        "decoder_input_ids": _padded(shifted, length, pad),
        TARGETS: _padded([[1] * len(row) for row in targets], length, 0),
        "labels": _padded(targets, length, _IGNORED),
    }


@functools.lru_cache(maxsize=4)
def _start_of(reading: Reading) -> int:
    return start_token(reading.folder)


def _padded(rows: Sequence[Sequence[int]], width: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def run(model: nn.Module, batch: Batch, *, hidden: bool = False, attention: bool = False) -> Outputs:
    """Score the target tokens of a batch; logits are 0 where there is padding.

    Args:
        model: The model.
        batch: Of ``collate``.
        hidden: Whether to keep the states of every layer, first the encoder's, then the decoder's.
        attention: Whether to keep what the decoder looks at.
    """
    out = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=batch["decoder_input_ids"],
        use_cache=False,
        output_hidden_states=hidden,
        output_attentions=attention,
    )
    return outputs_from(out, batch, hidden=hidden, attention=attention)


def distance(result: Tensor, reference: Tensor) -> Tensor:
    """Divergence of the tokens' distributions from the reference's, summed over a translation, ``[batch]``.

    Padding, whose logits are all 0, adds nothing.
    """
    own, theirs = result.log_softmax(-1), reference.log_softmax(-1)
    return (theirs.exp() * (theirs - own)).sum((-2, -1)).clamp(min=0)


def probe(result: Tensor) -> Tensor:
    """The log-probability of tokens drawn from the model itself: its squared gradients are Fisher's.

    Source:
        Martens and Grosse, Optimizing Neural Networks with Kronecker-factored Approximate Curvature (2015),
        section 2.
    """
    scores = result.log_softmax(-1)
    drawn = torch.distributions.Categorical(logits=scores.detach()).sample()  # type: ignore[no-untyped-call]
    chosen: Tensor = scores.gather(-1, drawn.unsqueeze(-1)).sum()
    return chosen
