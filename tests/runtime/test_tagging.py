from pathlib import Path

import numpy as np
import pytest
from classifiers import write_tokenizer

from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import UnsupportedModelError
from edgelr.runtime.package import model_path
from edgelr.runtime.tagging import word_scores, word_tags, word_tokens
from edgelr.runtime.text import load_tokenizer, package_tokenizer


def test_a_word_is_where_its_first_token_is(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json", 6)
    words = ["cat", "catdog", "dog", "horse", "fish"]
    inputs, firsts = word_tokens(tokenizer, words)
    assert inputs["input_ids"].shape == (1, 6)
    tokens = [tokenizer.id_to_token(token) for token in inputs["input_ids"][0]]
    assert firsts[:2] == [0, 1]
    assert tokens[0] == "cat"
    assert firsts[-1] is None, "cut off"
    known = [at for at in firsts if at is not None]
    assert known == sorted(known)


def test_the_tag_is_that_of_the_largest_score() -> None:
    scores = [np.array([0, 2, 1], np.float32), None, np.array([3, 2, 1], np.float32)]
    assert word_tags(scores, ["O", "B-A", "I-A"]) == ["B-A", "O", "O"]


def test_a_graph_of_another_task_is_named(make_package, cpu: Device) -> None:
    package = make_package()
    session = open_session(model_path(package), cpu)
    with pytest.raises(UnsupportedModelError, match=r"no logits \[batch, tokens, tags\]"):
        word_scores(package, session, package_tokenizer(package), ["copy"])


def test_tokens_that_belong_to_no_word_are_passed_over(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json", 16)
    begin = tokenizer.token_to_id("[CLS]")
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", begin)])
    inputs, firsts = word_tokens(tokenizer, ["cat", "dog"])
    assert inputs["input_ids"][0, 0] == begin
    assert firsts == [1, 2]
