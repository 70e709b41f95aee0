"""Three graphs that give, window by window and token by token, what the whole model gives."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.examples import Utterance
from edgelr.export.graphs import matrix_count, traceable
from edgelr.lowrank.reduce import restructure
from edgelr.runtime.caches import COUNTERS
from edgelr.runtime.package import model_path
from edgelr.structure import Reduction
from edgelr.survey.sites import find_sites
from edgelr.tasks.encoder_decoder import cross_projections
from edgelr.tasks.speech_folder import features_of
from edgelr.tasks.speech_graphs import SpeechDecoderGraph, SpeechEncoderGraph, graph_specs
from edgelr.tasks.speech_model import (
    FEATURES,
    collate,
    frames_of,
    load_model,
    padded_sounds,
    shorten_window,
    window_positions,
    window_samples,
)
from edgelr.tasks.task import Reading

Spoken = tuple[Utterance, ...]
FORMS = ("dense", "factored", "cut")


def factored(dense: Any) -> Any:
    """Every layer in two factors; the keys and values of the sound share one."""
    model = copy.deepcopy(dense)
    sites = find_sites(model, ("*",), (), vocabulary=True)
    joint = tuple(name for name in sites.sites if name in crossing(model))
    low = [
        Reduction(form="low-rank", sites=(site,), rank=4, shared=tuple(sites.shared.get(site, ())))
        for site in sites.sites
        if site not in joint
    ]
    restructure(model, [Reduction(form="joint", sites=joint, rank=12), *low])
    torch.manual_seed(1)
    for module in model.modules():
        if type(module).__name__.startswith("LowRank"):
            for values in module.parameters():  # made without values
                nn.init.normal_(values, std=0.2)
    return model


def crossing(model: Any) -> dict[str, nn.Module]:
    """Keys and values of every cross attention, by name."""
    modules = dict(model.named_modules())
    names = [f"model.decoder.layers.{layer}.encoder_attn.{part}_proj" for layer in range(2) for part in "kv"]
    return {name: modules[name] for name in names}


@pytest.fixture
def model(tiny_whisper: Path, request: pytest.FixtureRequest) -> Any:
    """The model in a form of ``FORMS``."""
    dense = load_model(tiny_whisper)
    if request.param == "factored":
        return factored(dense)
    if request.param == "cut":
        shorten_window(dense, 1.2)
    return dense


@pytest.fixture
def cases(speech_reading: Reading, utterances: Spoken, model: Any) -> list[tuple[Tensor, Tensor]]:
    """Windows and tokens of two, one and three sounds."""
    found = []
    for group in (utterances[:2], utterances[5:6], utterances[-3:]):
        ids = torch.randint(30, 280, (len(group), 8), generator=torch.Generator().manual_seed(len(group)))
        found.append((padded_sounds(speech_reading, group, window_samples(model)), ids))
    return found


# --- in torch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", FORMS, indirect=True)
def test_step_by_step_the_logits_are_those_of_the_whole_model(
    model: Any, cases: list[tuple[Tensor, Tensor]], speech_reading: Reading
) -> None:
    model = traceable(model)
    encoder, decoder = SpeechEncoderGraph(model), SpeechDecoderGraph(model)
    for pcm, tokens in cases:
        with torch.inference_mode():
            features = features_of(speech_reading)(pcm)
            assert features.shape[2] == frames_of(model)
            expected = model(input_features=features, decoder_input_ids=tokens, use_cache=False).logits
            cross = encoder(features)
            cache = tuple(tensor[:, :, :0] for tensor in cross)
            steps = []
            for at in range(tokens.shape[1]):
                logits, *present = decoder(tokens[:, at : at + 1], (*cache, *cross))
                cache = tuple(present)
                steps.append(logits)
        # Sums in another order, through all layers.
        torch.testing.assert_close(
            torch.cat(steps, 1), expected, atol=2e-5 * float(expected.abs().max()), rtol=0
        )
        assert {tensor.shape[2] for tensor in cross} == {window_positions(model)}


@pytest.mark.parametrize("model", ["dense", "factored"], indirect=True)
def test_the_layers_that_read_the_sound_are_keys_and_values_of_every_cross_attention(model: Any) -> None:
    expected = crossing(model)
    found = cross_projections(SpeechEncoderGraph(model), {FEATURES: torch.randn(1, 80, 200)})
    assert len(found) == 4
    assert {id(layer) for layer in found} == {id(layer) for layer in expected.values()}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("model", "encoder", "decoder"),
    [
        # Two convolutions, six matrices a layer and two crossing ones; eight a layer of the decoder, a head.
        ("dense", 2 + 2 * (6 + 2), 2 * 8 + 1),
        ("cut", 2 + 2 * (6 + 2), 2 * 8 + 1),
    ],
    indirect=["model"],
)
def test_each_graph_has_the_matrices_of_its_own_half(
    model: Any, cases: list[tuple[Tensor, Tensor]], speech_reading: Reading, encoder: int, decoder: int
) -> None:
    specs = {spec.role: spec for spec in graph_specs(model, features_of(speech_reading), cases)}
    counts = {role: matrix_count(spec.module, spec.idle) for role, spec in specs.items()}
    assert (counts["encoder"], counts["decoder"]) == (encoder, decoder)


@pytest.mark.parametrize("model", FORMS, indirect=True)
def test_of_all_sizes_only_the_batch_and_the_tokens_may_change(
    model: Any, cases: list[tuple[Tensor, Tensor]], speech_reading: Reading
) -> None:
    features, encoder, decoder = graph_specs(model, features_of(speech_reading), cases)
    assert [spec.role for spec in (features, encoder, decoder)] == ["features", "encoder", "decoder"]
    for spec in (features, encoder):
        axes = [*spec.dynamic_axes.values(), *spec.output_axes.values()]
        assert all(each == {0: "batch"} for each in axes)
    assert decoder.dynamic_axes["input_ids"] == {0: "batch"}
    assert decoder.dynamic_axes["past_key_1"] == {0: "batch", 2: "past"}
    assert decoder.dynamic_axes["cross_value_1"] == {0: "batch"}
    assert "attention_mask" not in decoder.dynamic_axes, "silence is heard like anything else"
    assert [spec.travels for spec in (features, encoder, decoder)] == [False] * 3
    assert [spec.one_token for spec in (features, encoder, decoder)] == [False, False, True]
    for spec, name in ((features, "pcm"), (encoder, FEATURES), (decoder, "input_ids")):
        assert [len(case[name]) for case in spec.cases] == [2, 1, 3]
    assert [case["past_key_0"].shape[2] for case in decoder.cases] == [3, 0, 5]
    assert encoder.cases[0][FEATURES].shape[2] == frames_of(model)


# --- in ONNX: see also tests/runtime/test_transcribe.py -------------------------------------------------


def test_features_are_those_of_transformers(
    dense_speech: Package, speech_reading: Reading, speech: Any, cpu: Device
) -> None:
    """To a ten thousandth, between about -1 and 2, whatever the batch."""
    from transformers import WhisperFeatureExtractor

    session = open_session(model_path(dense_speech, "features"), cpu, entries={})
    extractor = WhisperFeatureExtractor.from_pretrained(speech_reading.folder)
    sounds = [speech(number, seconds) for number, seconds in enumerate((0.0001, 0.3, 1.0, 1.9, 2.0))]
    sounds += [np.zeros(1000, np.float32), 3 * speech(9, 1.0), 1e-4 * speech(8, 1.0)]
    expected = extractor(sounds, sampling_rate=16_000, return_tensors="np")["input_features"]
    windows = np.stack([np.pad(pcm, (0, 32_000 - len(pcm))) for pcm in sounds])
    (together,) = session.run(None, {"pcm": windows})
    alone = np.concatenate([session.run(None, {"pcm": row[None]})[0] for row in windows])
    for found in (together, alone):
        assert found.shape == expected.shape == (8, 80, 200)
        assert np.abs(found - expected).max() < 1e-4


def test_the_encoders_graph_gives_what_torch_gives(
    dense_speech: Package, tiny_whisper: Path, speech_reading: Reading, utterances: Spoken, cpu: Device
) -> None:
    graph = SpeechEncoderGraph(traceable(load_model(tiny_whisper)))
    features = collate(speech_reading, utterances[:4])[FEATURES]
    with torch.inference_mode():
        expected = graph(features)
    session = open_session(model_path(dense_speech, "encoder"), cpu, entries={})
    found = session.run(None, {FEATURES: features.numpy()})
    for one, other in zip(found, expected, strict=True):
        assert one.shape == (4, 4, 100, 8)
        # Sums in another order, through all layers.
        torch.testing.assert_close(torch.from_numpy(one), other, atol=1e-4, rtol=1e-4)


def test_every_attention_is_one_node_and_caches_stay_in_place(dense_speech: Package) -> None:
    graphs = {role: onnx.load(model_path(dense_speech, role)).graph for role in dense_speech.graphs}
    kinds = {role: [node.op_type for node in graph.node] for role, graph in graphs.items()}
    assert kinds["encoder"].count("MultiHeadAttention") == 2
    assert kinds["decoder"].count("MultiHeadAttention") == 2
    assert kinds["decoder"].count("GroupQueryAttention") == 2
    assert not {"Softmax", "STFT"} & {kind for each in kinds.values() for kind in each}
    assert set(COUNTERS) <= {each.name for each in graphs["decoder"].input}
    assert kinds["decoder"].count("MatMul") == 2 * (8 - 2) + 1, "query, key and value are one product"


def test_the_table_of_tokens_is_stored_once(dense_speech: Package) -> None:
    graph = onnx.load(model_path(dense_speech, "decoder")).graph
    assert [list(each.dims) for each in graph.initializer if 297 in each.dims] == [[32, 297]]


def test_every_shape_but_the_batch_is_a_number(dense_speech: Package) -> None:
    """What an NPU asks for."""
    graphs = dense_speech.graphs
    assert [each.shape for each in graphs["features"].inputs] == [("batch", 32_000)]
    assert [each.shape for each in graphs["features"].outputs] == [("batch", 80, 200)]
    assert [each.shape for each in graphs["encoder"].inputs] == [("batch", 80, 200)]
    assert {each.shape for each in graphs["encoder"].outputs} == {("batch", 4, 100, 8)}
    assert graphs["decoder"].outputs[0].shape == ("batch", 1, 297)
