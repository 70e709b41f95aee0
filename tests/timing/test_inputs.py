from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.artifacts import Graph, Package, Tensor
from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.examples import Translation
from edgelr.runtime.caches import counters_of
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.text import package_tokenizer
from edgelr.runtime.tokens import open_codec
from edgelr.timing.feeds import feeds
from edgelr.timing.inputs import made_up_inputs, package_inputs, tokens_of_length

Make = Callable[..., Package]


def test_inputs_have_exactly_the_length_asked_for(make_package: Make) -> None:
    tokenizer = package_tokenizer(make_package())
    whole = tokenizer.encode("copy a file").ids
    for tokens in (1, len(whole), 3 * len(whole) + 1):
        inputs = tokens_of_length(tokenizer, ["copy a file"], tokens)
        assert inputs["input_ids"] == [(whole * 4)[:tokens]]
        assert inputs["attention_mask"] == [[1] * tokens]
    both = tokens_of_length(tokenizer, ["copy", "delete a file"], 7)["input_ids"][0]
    assert both[:3] == tokenizer.encode("copy").ids
    assert both[3:] == tokenizer.encode("delete a file").ids[:4]


def test_the_text_of_a_package_is_its_own(make_package: Make) -> None:
    package = make_package()
    inputs = package_inputs(package, 5)
    start = package_tokenizer(package).encode("Copy data and mode bits").ids[:5]
    assert inputs == {"input_ids": [start], "attention_mask": [[1] * 5]}


def test_a_source_has_the_length_asked_for_and_ends_as_one(dense_translator: Package) -> None:
    examples = folder_examples(dense_translator.folder, Translation)
    codec = open_codec(dense_translator.folder, dense_translator.settings)
    *first, end = codec.encode(examples[0].source)
    second = codec.encode(examples[1].source)
    for tokens in (1, len(first), len(first) + 3, 300):
        inputs = package_inputs(dense_translator, tokens)
        assert inputs["new_tokens"] == tokens, "as many are written"
        (ids,) = inputs["input_ids"]
        assert len(ids) == tokens
        assert ids[-1] == end == 0
        assert ids[:-1] == [*first, *second[:-1]][: tokens - 1] or tokens == 300
        assert 0 not in ids[:-1], "one end"


def test_an_unknown_task_is_named(make_package: Make) -> None:
    with pytest.raises(UnsupportedModelError, match="the task 'summary' is unknown"):
        package_inputs(replace(make_package(), task="summary"), 4)


def graph(**inputs: tuple[str, tuple[int | str, ...]]) -> Graph:
    entries = [Tensor(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in inputs.items()]
    return Graph(file="a.onnx", inputs=tuple(entries), outputs=())


def test_inputs_of_any_graph_are_made_up() -> None:
    known = graph(x=("float16", ("batch", 8)), ids=("int32", ("batch", "tokens")), past=("double", (2,)))
    assert made_up_inputs(Path("a.onnx"), known, {"batch": 3, "tokens": 5}) == {
        "x": {"normal": [3, 8], "dtype": "float16"},
        "ids": {"ones": [3, 5], "dtype": "int32"},
        "past": {"normal": [2], "dtype": "float64"},
    }


def test_caches_that_are_made_up_are_full() -> None:
    graph = Graph(
        file="decoder.onnx",
        inputs=(
            Tensor(name="past_key_0", dtype="float", shape=("batch", 2, "past", 8)),
            *(
                Tensor(name=name, dtype="int64", shape=(1,))
                for name in ("past_length", "total_sequence_length")
            ),
            Tensor(name="seqlens_k", dtype="int32", shape=("batch",)),
        ),
        outputs=(),
    )
    made = feeds(made_up_inputs(Path("decoder.onnx"), graph, {"batch": 3, "past": 5}))
    for name, array in counters_of(3, 5).items():
        assert made[name].tolist() == array.tolist()


def test_what_cannot_be_made_up_is_named() -> None:
    with pytest.raises(UsageError, match=r"a\.onnx: the size of axis 'tokens' is open"):
        made_up_inputs(Path("a.onnx"), graph(x=("float", ("tokens",))), {})
    with pytest.raises(UsageError, match="--shape heads: no input has an axis of that name"):
        made_up_inputs(Path("a.onnx"), graph(x=("float", (1,))), {"heads": 2})
    with pytest.raises(UnsupportedModelError, match="input 'x' is of type string"):
        made_up_inputs(Path("a.onnx"), graph(x=("string", (1,))), {})
