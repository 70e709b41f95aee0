"""The graphs of a tiny Marian step by step, against torch, and graphs that are something else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from numpy.typing import NDArray

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.export.fuse import fuse_attention
from edgelr.export.in_place import keep_caches_in_place
from edgelr.runtime import caches
from edgelr.runtime.decoder_graph import SPEECH, WAVEFORM, GraphDecoder, heard_by

IDS = np.array([[5, 6, 7, 8, 0], [9, 10, 0, 3, 3]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def open_graphs(folder: Path, cpu: Device) -> GraphDecoder:
    return GraphDecoder(*(open_session(folder / f"{role}.onnx", cpu) for role in ("encoder", "decoder")))


@pytest.fixture(scope="module")
def in_place(translation_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same graphs, with a decoder that writes into its caches."""
    folder = tmp_path_factory.mktemp("in-place")
    shutil.copyfile(translation_files / "encoder.onnx", folder / "encoder.onnx")
    graph = onnx_ir.load(translation_files / "decoder.onnx")
    fuse_attention(graph)
    proto = onnx_ir.to_proto(graph)
    assert keep_caches_in_place(proto) == 2
    onnx.save(proto, folder / "decoder.onnx")
    return folder


@pytest.fixture(params=["growing", "in place", "masked"])
def decoder(
    request: pytest.FixtureRequest, translation_files: Path, in_place: Path, masked_files: Path, cpu: Device
) -> Any:
    kinds = {"growing": translation_files, "in place": in_place, "masked": masked_files}
    found = open_graphs(kinds[request.param], cpu)
    found.read({"input_ids": IDS, "attention_mask": MASK})
    return found


@pytest.fixture
def growing(translation_files: Path, cpu: Device) -> GraphDecoder:
    found = open_graphs(translation_files, cpu)
    found.read({"input_ids": IDS, "attention_mask": MASK})
    return found


def run(decoder: GraphDecoder, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits after each of the given tokens ``[rows, steps]``, copied; ``[rows, steps, vocabulary]``."""
    return np.stack([decoder.step(column).copy() for column in tokens.T], axis=1)


def torch_logits(model: Any, texts: list[int], tokens: NDArray[np.int64]) -> Any:
    with torch.inference_mode():
        return model(
            input_ids=torch.from_numpy(IDS[texts]),
            attention_mask=torch.from_numpy(MASK[texts]),
            decoder_input_ids=torch.from_numpy(tokens.copy()),
        ).logits.numpy()


TOKENS = np.array([[4, 9, 12, 30], [4, 5, 5, 60]])
# fp32 in two runtimes: the attention of this model is steep, and torch alone is 2e-4 from double precision.
NOISE = 1e-3


def test_logits_are_torchs(decoder: GraphDecoder, marian_model: Any) -> None:
    decoder.start(2)
    expected = torch_logits(marian_model, [0, 1], TOKENS)
    np.testing.assert_allclose(run(decoder, TOKENS), expected, atol=NOISE)
    assert decoder.vocabulary == marian_model.config.vocab_size


def test_starting_again_forgets(decoder: GraphDecoder) -> None:
    decoder.start(2)
    first = run(decoder, TOKENS)
    decoder.start(2)
    np.testing.assert_array_equal(run(decoder, TOKENS), first)
    decoder.read({"input_ids": IDS[::-1], "attention_mask": MASK[::-1]})
    decoder.start(2)
    np.testing.assert_allclose(run(decoder, TOKENS[::-1])[::-1], first, atol=NOISE)


@pytest.mark.parametrize("rows", [[1, 0], [0, 0, 1, 1], [1], [1, 1, 0], [0, 1]])
def test_rows_take_their_past_and_their_text_with_them(
    decoder: GraphDecoder, marian_model: Any, rows: list[int]
) -> None:
    decoder.start(2)
    run(decoder, TOKENS[:, :2])
    decoder.reorder(np.array(rows))
    after = np.array([[11, 50], [8, 3], [7, 7], [40, 2]])[: len(rows)]
    expected = torch_logits(marian_model, rows, np.concatenate((TOKENS[rows, :2], after), axis=1))
    np.testing.assert_allclose(run(decoder, after), expected[:, 2:], atol=NOISE)
    decoder.reorder(np.arange(len(rows))[::-1])
    more = np.full((len(rows), 1), 6)
    whole = np.concatenate((TOKENS[rows, :2], after, more), axis=1)[::-1]
    found = run(decoder, more)
    np.testing.assert_allclose(found, torch_logits(marian_model, rows[::-1], whole)[:, 4:], atol=NOISE)


def all_bound(binding: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is bound as an input from now on."""
    bound: list[Any] = []
    bind = binding.bind_ortvalue_input
    monkeypatch.setattr(
        binding, "bind_ortvalue_input", lambda name, value: (bound.append(value), bind(name, value))
    )
    return bound


def test_caches_are_handed_on_as_they_are(growing: GraphDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    growing.start(2)
    growing.step(TOKENS[:, 0])
    values, binding = growing._caches._values, growing._binding
    growing.reorder(np.array([0, 1]))
    assert growing._caches._values is values
    bound = all_bound(binding, monkeypatch)
    growing.step(TOKENS[:, 1])
    assert bound == values, "the outputs of a step are the inputs of the next, and nothing else is bound"
    del bound[:]
    growing.reorder(np.array([1, 1]))
    assert len(bound) == 1 + 4, "other texts: the mask, and keys and values of two layers"


def test_a_buffer_is_bound_once_and_again_when_it_is_full(
    in_place: Path, cpu: Device, marian_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "_ROOM", 2)
    decoder = open_graphs(in_place, cpu)
    decoder.read({"input_ids": IDS, "attention_mask": MASK})
    decoder.start(2)
    found = [decoder.step(TOKENS[:, 0]).copy()]
    bound = all_bound(decoder._binding, monkeypatch)
    found.append(decoder.step(TOKENS[:, 1]).copy())
    assert not bound
    found.append(decoder.step(TOKENS[:, 2]).copy())
    assert len(bound) == 4 + 3, "two layers of keys and values, and the counters"
    decoder.reorder(np.array([0, 1]))
    found.append(decoder.step(TOKENS[:, 3]).copy())
    assert len(bound) == 4 + 3
    expected = torch_logits(marian_model, [0, 1], TOKENS)
    np.testing.assert_allclose(np.stack(found, axis=1), expected, atol=NOISE)


def test_only_a_change_of_texts_binds_the_encoders_output_again(
    decoder: GraphDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.start(2)
    decoder.step(TOKENS[:, 0])
    decoder.reorder(np.array([0, 0, 1, 1]))
    decoder.step(np.array([4, 5, 6, 7]))
    bound = all_bound(decoder._binding, monkeypatch)
    decoder.reorder(np.array([1, 0, 3, 3]))
    assert not bound


def test_the_next_batch_of_as_many_texts_binds_what_it_has_anew_and_nothing_else(
    in_place: Path, cpu: Device, marian_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = open_graphs(in_place, cpu)
    decoder.read({"input_ids": IDS[::-1, :3].copy(), "attention_mask": np.ones((2, 3), np.int64)})
    decoder.start(2)
    run(decoder, TOKENS)
    binding = decoder._binding
    bound = all_bound(binding, monkeypatch)
    decoder.read({"input_ids": IDS, "attention_mask": MASK})
    decoder.start(2)
    found = run(decoder, TOKENS)
    assert decoder._binding is binding
    assert len(bound) == 1 + 4, "the mask, and keys and values of two layers"
    np.testing.assert_allclose(found, torch_logits(marian_model, [0, 1], TOKENS), atol=NOISE)


def test_a_failure_names_graph_and_shape(decoder: GraphDecoder) -> None:
    decoder.start(2)
    with pytest.raises(UnsupportedModelError, match=r"fails on the graph 'decoder' with input_ids \[2, 1\]"):
        decoder.step(np.array([4, 10_000]))
    with pytest.raises(UnsupportedModelError, match=r"fails on the graph 'encoder' with input_ids \[1, 1\]"):
        decoder.read({"input_ids": np.array([[10_000]]), "attention_mask": np.array([[1]])})


# --- graphs that are something else -----------------------------------------------------------------


def change_graph(path: Path, change: Callable[[Any], object]) -> None:
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)


def rename_input(graph: Any, old: str, new: str) -> None:
    next(value for value in graph.input if value.name == old).name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


@pytest.mark.parametrize(
    ("role", "change", "words"),
    [
        (
            "decoder",
            lambda graph: rename_input(graph, "past_value_1", "past_1"),
            "inputs of the graph 'decoder' are not.*missing past_value_1, unknown past_1",
        ),
        (
            "encoder",
            lambda graph: rename_input(graph, "attention_mask", "mask"),
            "inputs of the graph 'encoder' are not.*missing attention_mask, unknown mask",
        ),
        (
            "decoder",
            lambda graph: graph.output.pop(),
            "outputs of the graph 'decoder'.*missing present_value_1",
        ),
        (
            "encoder",
            lambda graph: graph.output.pop(),
            "outputs of the graph 'encoder'.*missing cross_value_1",
        ),
        (
            "decoder",
            lambda graph: setattr(graph.input[2].type.tensor_type.shape.dim[1], "dim_param", "heads"),
            r"has past_key_0 \['batch', 'heads', 'past', 16\], whose sizes at \[1, 3\] must be numbers",
        ),
    ],
)
def test_another_contract_is_named(
    translation_package: Package, cpu: Device, role: str, change: Callable[[Any], object], words: str
) -> None:
    change_graph(translation_package.folder / f"{role}.onnx", change)
    with pytest.raises(DamagedArtifactError, match=words):
        open_graphs(translation_package.folder, cpu)


def test_a_graph_of_another_task_is_no_decoder(make_package: Callable[..., Package], cpu: Device) -> None:
    session = open_session(make_package().folder / "model.onnx", cpu)
    with pytest.raises(DamagedArtifactError, match="the outputs of the graph 'encoder'"):
        GraphDecoder(session, session)


def test_what_an_encoder_of_speech_reads_is_its_input() -> None:
    assert heard_by(["input_values"]) == WAVEFORM
    assert heard_by(["input_features"]) == SPEECH
    assert heard_by([]) == SPEECH, "what is missing is named then"
