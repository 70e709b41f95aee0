from pathlib import Path
from typing import Any

import pytest
from classifiers import write_tokenizer

from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.tasks.task import Reading
from edgelr.tasks.text_reach import check_text_reach


def encoder(kind: str, tokens: int) -> Any:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=tokens,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    return getattr(transformers, f"{kind}Model")(config)


def test_tokens_and_positions_are_counted(tmp_path: Path) -> None:
    tokens = write_tokenizer(tmp_path)
    check_text_reach(encoder("Bert", tokens), Reading(folder=tmp_path, max_tokens=40))
    with pytest.raises(UsageError, match="41 was asked for, the model has 40 positions"):
        check_text_reach(encoder("Bert", tokens), Reading(folder=tmp_path, max_tokens=41))
    with pytest.raises(UsageError, match="the model has 38 positions"):  # counted from after the padding's
        check_text_reach(encoder("Roberta", tokens), Reading(folder=tmp_path, max_tokens=39))
    with pytest.raises(UnsupportedModelError, match=f"the model knows {tokens - 1} tokens"):
        check_text_reach(encoder("Bert", tokens - 1), Reading(folder=tmp_path, max_tokens=8))
