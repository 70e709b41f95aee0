import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.examples import Example
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.text import (
    batch_tokens,
    embed,
    embedding,
    load_tokenizer,
    nearest,
    open_text_package,
    package_tokenizer,
    pad_id,
    parse_tokenizer,
    search,
    write_index,
)

Make = Callable[..., Package]


@pytest.fixture
def package(make_package: Make) -> Package:
    return make_package()


@pytest.fixture
def tokenizer(package: Package) -> Tokenizer:
    return package_tokenizer(package)


# --- tokens -----------------------------------------------------------------------------------------


def test_a_batch_is_padded_to_its_longest_and_masked(tokenizer: Tokenizer) -> None:
    feeds = batch_tokens(tokenizer, ["copy", "copy a file"])
    assert feeds["input_ids"].dtype == feeds["attention_mask"].dtype == np.int64
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert feeds["input_ids"][0, 3:].tolist() == [pad_id(tokenizer)] * 2
    assert feeds["input_ids"][0, :2].tolist() == feeds["input_ids"][1, :2].tolist()


def test_long_texts_are_cut_with_their_special_tokens(package: Package) -> None:
    tokenizer = load_tokenizer(package.folder / "tokenizer.json", 8)
    ids = batch_tokens(tokenizer, ["file " * 100])["input_ids"]
    assert ids.shape == (1, 8)
    assert ids[0, -1] == tokenizer.token_to_id("[SEP]")


def test_an_empty_text_has_at_least_one_token_that_counts(tokenizer: Tokenizer, package: Package) -> None:
    assert batch_tokens(tokenizer, [""])["attention_mask"].tolist() == [[1, 1]]
    document = json.loads((package.folder / "tokenizer.json").read_text())
    document["post_processor"] = None
    bare = parse_tokenizer(json.dumps(document), 8)
    assert {name: array.tolist() for name, array in batch_tokens(bare, [""]).items()} == {
        "input_ids": [[pad_id(bare)]],
        "attention_mask": [[1]],
    }


def test_a_tokenizer_that_pads_on_its_own_is_stopped(package: Package) -> None:
    document = json.loads((package.folder / "tokenizer.json").read_text())
    padding = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None}
    document["padding"] = {**padding, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    assert batch_tokens(parse_tokenizer(json.dumps(document), 32), ["copy"])["input_ids"].shape == (1, 3)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": {"type": "Nothing"}}'])
def test_what_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DamagedArtifactError, match=r"tokenizer\.json is not a usable tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json", 8)


def test_a_missing_tokenizer_and_a_senseless_limit_are_named(package: Package, tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path / "tokenizer.json", 8)
    for limit in ("many", 0):
        package.settings["max_tokens"] = limit
        with pytest.raises(DamagedArtifactError, match=r"settings\.max_tokens"):
            package_tokenizer(package)


# --- vectors ----------------------------------------------------------------------------------------


def test_vectors_have_unit_length_and_the_order_of_the_texts(package: Package, cpu: Device) -> None:
    session, tokenizer = open_text_package(package, cpu)
    texts = ["copy a file", "", "unknown words only", "shuffle a list"]
    vectors = embed(session, tokenizer, texts)
    assert (vectors.shape, vectors.dtype) == ((4, 16), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)  # fp32
    np.testing.assert_array_equal(embed(session, tokenizer, texts[::-1]), vectors[::-1])


def test_one_text_alone_is_what_it_is_in_a_batch(package: Package, cpu: Device) -> None:
    session, tokenizer = open_text_package(package, cpu)
    texts = ["copy a file", "delete"]
    together = embedding(session, batch_tokens(tokenizer, texts))
    # fp32 sums of a few masked vectors: only their order may differ
    np.testing.assert_allclose(embed(session, tokenizer, texts), together, atol=1e-6)


def test_progress_is_told_of_every_text(package: Package, cpu: Device) -> None:
    session, tokenizer = open_text_package(package, cpu)
    calls: list[int] = []
    embed(session, tokenizer, ["a", "b", "c"], lambda: calls.append(1))
    assert len(calls) == 3


def test_a_graph_without_the_output_is_named(package: Package, cpu: Device, reseal: Make) -> None:
    path = package.folder / "model.onnx"
    model = onnx.load(path)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "vector"
    onnx.save(model, path)
    session, tokenizer = open_text_package(reseal(package.folder), cpu)
    with pytest.raises(UnsupportedModelError, match="no output 'embedding'"):
        embed(session, tokenizer, ["a"])


# --- search -----------------------------------------------------------------------------------------


def test_the_index_is_what_the_graph_gives_in_half_precision(package: Package, cpu: Device) -> None:
    session, tokenizer = open_text_package(package, cpu)
    passages = [example.passage for example in folder_examples(package.folder, Example)]
    index = read_arrays(package.folder / "index.npz")["passages"]
    np.testing.assert_array_equal(index, embed(session, tokenizer, passages).astype(np.float16), strict=True)


def test_writing_the_index_again_gives_the_same_bytes(package: Package) -> None:
    before = (package.folder / "index.npz").read_bytes()
    write_index(package.folder, max_tokens=32)
    assert (package.folder / "index.npz").read_bytes() == before


def test_a_passage_finds_itself(package: Package) -> None:
    examples = folder_examples(package.folder, Example)
    for example in examples[:4]:
        best, *others = search(package, example.passage, top=3)
        assert (best.id, best.passage) == (example.id, example.passage)
        assert best.score == pytest.approx(1.0, abs=2e-3)  # the index is fp16
        assert all(other.score <= best.score for other in others)


def test_top_is_at_most_all(package: Package) -> None:
    assert len(search(package, "copy a file", top=2)) == 2
    assert len(search(package, "copy a file", top=1000)) == len(folder_examples(package.folder, Example))


def test_an_index_of_other_passages_is_named(package: Package) -> None:
    write_arrays(package.folder / "index.npz", {"passages": np.zeros((3, 16), np.float16)})
    with pytest.raises(DamagedArtifactError, match=r"index\.npz holds \[3, 16\], not \[12, 16\]"):
        nearest(package, np.ones(16, np.float32))


def test_settings_of_the_device_reach_the_session(package: Package, cpu: Device) -> None:
    entries = {"optimization.disable_specified_optimizers": "SkipLayerNormFusion"}
    (package.folder / "session.json").write_text(json.dumps({"cpu-1t": entries}))
    session, _ = open_text_package(package, cpu)
    name = "optimization.disable_specified_optimizers"
    assert session.get_session_options().get_session_config_entry(name) == "SkipLayerNormFusion"
