"""The task's functions for Moonshine; and packages of one, next to torch."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import UsageError
from edgelr.examples import Utterance
from edgelr.export.graphs import matrix_count, traceable
from edgelr.export.in_place import keep_caches_in_place
from edgelr.export.plain import write_plainly
from edgelr.lowrank.reduce import restructure
from edgelr.progress import Progress
from edgelr.quantize.calibration import data_of_package
from edgelr.quantize.stage import quantize
from edgelr.recipe.finetune import Finetune
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.caches import COUNTERS
from edgelr.runtime.examples import example_sound
from edgelr.runtime.masked_caches import PAST_MASK
from edgelr.runtime.package import model_path
from edgelr.runtime.timed_transcript import timed_transcript
from edgelr.runtime.transcribe import (
    SHORTEST,
    Transcriber,
    generate,
    open_transcriber,
    text_of,
    transcribe,
    transcriber_of,
)
from edgelr.structure import Reduction
from edgelr.survey.sites import find_sites
from edgelr.tasks import moonshine_recognition as task
from edgelr.tasks.moonshine_model import collate, load_model, transcribed
from edgelr.tasks.speech_graphs import SpeechDecoderGraph, WaveformEncoderGraph
from edgelr.tasks.task import Reading
from edgelr.timing.speech import TimedTranscript
from edgelr.validate.accuracy import score_variant

Utterances = tuple[Utterance, ...]
QUIET = Progress(quiet=True)
KINDS = ("plain", "odd")


@pytest.fixture(scope="module")
def reading(make_moonshine: Callable[[str], Path], sounds: Path) -> Reading:
    return Reading(folder=make_moonshine("plain"), max_tokens=24, sounds=sounds)


@pytest.fixture(scope="module")
def model(reading: Reading) -> nn.Module:
    return load_model(reading.folder)


def factored(dense: Any) -> Any:
    """Every layer in two factors."""
    model = copy.deepcopy(dense)
    sites = find_sites(model, ("*",), (), vocabulary=True)
    low = [
        Reduction(form="low-rank", sites=(site,), rank=5, shared=tuple(sites.shared.get(site, ())))
        for site in sites.sites
    ]
    restructure(model, low)
    torch.manual_seed(1)
    for module in model.modules():
        if type(module).__name__.startswith("LowRank"):
            for values in module.parameters():  # made without values
                nn.init.normal_(values, std=0.3)
    return model


def opened(package: Package, cpu: Device) -> Transcriber:
    found = open_transcriber(package, cpu)
    assert isinstance(found, Transcriber)
    return found


# --- next to torch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_a_package_writes_what_transformers_writes(
    moonshine_package: Callable[[str], Package],
    make_moonshine: Callable[[str], Path],
    utterances: Utterances,
    cpu: Device,
    kind: str,
    beams: int,
) -> None:
    """Token for token, of the model as transformers loads it."""
    from transformers import MoonshineForConditionalGeneration

    package = moonshine_package(kind)
    transcriber = opened(package, cpu)
    model = MoonshineForConditionalGeneration.from_pretrained(make_moonshine(kind)).eval()
    padding = model.model.encoder.layers[0].self_attn.head_dim_padding
    assert padding == {"plain": 0, "odd": 4}[kind]
    found, expected = [], []
    for example in utterances:
        pcm = example_sound(package.folder, example)
        values = torch.from_numpy(pcm)[None]
        row = model.generate(input_values=values, num_beams=beams, max_new_tokens=23)[0].tolist()[1:]
        expected.append(row[: row.index(2)] if 2 in row else row)
        written = generate(transcriber, pcm, beams=beams)
        found.append(written[:-1] if written[-1] == 2 else written)
    assert found == expected
    assert len(set(map(tuple, expected))) > 8, "or little was compared"
    assert len(set(map(len, expected))) > 2, "some end"


def test_texts_are_those_of_torch(
    moonshine_package: Callable[[str], Package],
    model: nn.Module,
    reading: Reading,
    utterances: Utterances,
    cpu: Device,
) -> None:
    package = moonshine_package("plain")
    transcriber = opened(package, cpu)
    found = [text_of(transcribe(transcriber, [example_sound(package.folder, each)])) for each in utterances]
    expected = transcribed(model, reading, utterances)
    assert found == [" ".join(text.split()) for text in expected]
    stored = read_arrays(package.folder / "reference.npz", ["dense_outputs"])["dense_outputs"]
    assert stored.tobytes().decode().split("\n") == found


@pytest.mark.parametrize("seconds", [0.06, 0.3, 0.777, 1.0, 3.1])
@pytest.mark.parametrize("kind", KINDS)
def test_the_graphs_give_what_torch_gives(
    moonshine_package: Callable[[str], Package],
    make_moonshine: Callable[[str], Path],
    speech: Any,
    cpu: Device,
    kind: str,
    seconds: float,
) -> None:
    """Of any length: features, encoder, and every step of the decoder, also of more rows than one."""
    package, model = moonshine_package(kind), load_model(make_moonshine(kind))
    pcm = np.stack([speech(1, seconds), speech(2, seconds)])
    sessions = {role: open_session(model_path(package, role), cpu, entries={}) for role in package.graphs}
    (values,) = sessions["features"].run(None, {"pcm": pcm})
    assert np.array_equal(values, pcm), "this extractor changes nothing"
    cross = sessions["encoder"].run(None, {"input_values": values})
    tokens = torch.randint(3, 100, (2, 40), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = WaveformEncoderGraph(traceable(model))(torch.from_numpy(values))
        logits = model(torch.from_numpy(values), decoder_input_ids=tokens, use_cache=False).logits
    for one, other in zip(cross, expected, strict=True):
        # Sums in another order, through all layers.
        torch.testing.assert_close(torch.from_numpy(one), other, atol=1e-4, rtol=1e-4)
    decoder = opened(package, cpu).decoder
    decoder.read({"input_values": values})
    decoder.start(2)
    steps = [decoder.step(tokens[:, at].numpy()).copy() for at in range(40)]
    torch.testing.assert_close(
        torch.from_numpy(np.stack(steps, axis=1)), logits, atol=2e-5 * float(logits.abs().max()), rtol=0
    )


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_step_by_step_the_logits_are_those_of_the_whole_model(
    model: nn.Module, reading: Reading, utterances: Utterances, form: str
) -> None:
    plain: Any = traceable(factored(model) if form == "factored" else model)
    batch = collate(reading, utterances[4:5])
    tokens = torch.randint(3, 100, (1, 12), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = plain(batch["input_values"], decoder_input_ids=tokens, use_cache=False).logits
        cross = WaveformEncoderGraph(plain)(batch["input_values"])
        cache, steps = tuple(tensor[:, :, :0] for tensor in cross), []
        for at in range(12):
            logits, *present = SpeechDecoderGraph(plain)(tokens[:, at : at + 1], (*cache, *cross))
            cache = tuple(present)
            steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), expected, atol=2e-5 * float(expected.abs().max()), rtol=0)


def test_a_sound_of_a_moment_is_no_crash(moonshine_package: Callable[[str], Package], cpu: Device) -> None:
    transcriber = opened(moonshine_package("plain"), cpu)
    for samples in (1, SHORTEST - 1, SHORTEST, SHORTEST + 1):
        list(transcribe(transcriber, [np.zeros(samples, np.float32)]))


def test_beams_that_change_places_keep_their_tokens(
    moonshine_package: Callable[[str], Package], cpu: Device, speech: Any
) -> None:
    decoder = opened(moonshine_package("plain"), cpu).decoder
    decoder.read({"input_values": speech(3, 0.5)[None]})
    histories, chosen = ([5, 6, 7], [9, 8, 7]), np.array([1, 1, 0])
    alone = []
    for history in histories:
        decoder.start(1)
        alone.append([decoder.step(np.array([token])).copy()[0] for token in [*history, 11]][-1])
    decoder.start(1)
    decoder.reorder(np.array([0, 0]))
    for tokens in zip(*histories, strict=True):
        decoder.step(np.array(tokens))
    decoder.reorder(chosen)
    np.testing.assert_allclose(decoder.step(np.array([11] * 3)), np.stack(alone)[chosen], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_in_plain_operators_under_a_mask_it_writes_the_same(
    moonshine_package: Callable[[str], Package],
    kind: str,
    cpu: Device,
    sounds: Path,
    utterances: Utterances,
    tmp_path: Path,
) -> None:
    package, sessions = moonshine_package(kind), {}
    for role in package.graphs:
        proto = onnx.load(model_path(package, role))
        if role == "decoder":
            keep_caches_in_place(proto, head_multiple=1)
        write_plainly(proto)
        assert not any(node.domain for node in proto.graph.node)
        onnx.save(proto, tmp_path / f"{role}.onnx")
        sessions[role] = open_session(tmp_path / f"{role}.onnx", cpu)
    assert PAST_MASK in {entry.name for entry in sessions["decoder"].get_inputs()}
    masked, ordinary = transcriber_of(package, sessions), opened(package, cpu)
    assert isinstance(masked, Transcriber)
    for example in utterances[:6]:
        sound = example_sound(sounds, example)
        for beams in (1, 3):
            expected = generate(ordinary, sound, beams=beams)
            assert generate(masked, sound, beams=beams) == expected


# --- graphs ---------------------------------------------------------------------------------------------


def test_samples_and_source_are_dynamic(moonshine_package: Callable[[str], Package]) -> None:
    package = moonshine_package("plain")
    assert package.settings == {"max_tokens": 24, "window_samples": 480_000}
    graphs = package.graphs
    assert [each.shape for each in graphs["encoder"].inputs] == [("batch", "samples")]
    assert {each.shape for each in graphs["encoder"].outputs} == {("batch", 4, "source", 8)}
    shapes = {each.name: each.shape for each in graphs["decoder"].inputs}
    assert shapes["cross_key_1"] == ("batch", 4, "source", 8)
    assert shapes["past_value_0"] == ("batch", 4, "past", 8)
    assert "attention_mask" not in shapes


@pytest.mark.parametrize(("kind", "in_place"), [("plain", 2), ("odd", 0)])
def test_every_attention_is_one_node(
    moonshine_package: Callable[[str], Package], kind: str, in_place: int
) -> None:
    """Caches stay in place where heads are a multiple of 8."""
    package = moonshine_package(kind)
    nodes = {
        role: Counter(node.op_type for node in onnx.load(model_path(package, role)).graph.node)
        for role in ("encoder", "decoder")
    }
    assert not any(each["Softmax"] for each in nodes.values())
    assert nodes["encoder"]["Attention"] == 2, "under a mask, and without a cache"
    assert nodes["decoder"]["MultiHeadAttention"] == 4 - in_place
    assert nodes["decoder"]["GroupQueryAttention"] == in_place
    assert (COUNTERS[0] in {each.name for each in package.graphs["decoder"].inputs}) == (in_place > 0)


def test_each_graph_has_the_matrices_of_its_own_half(
    model: nn.Module, reading: Reading, utterances: Utterances
) -> None:
    specs = {spec.role: spec for spec in task.graphs(model, reading, utterances)}
    counts = {role: matrix_count(spec.module, spec.idle) for role, spec in specs.items()}
    # Three convolutions, six matrices a layer, two crossing ones; eight a layer of the decoder and a head.
    assert counts == {"features": 0, "encoder": 3 + 2 * (6 + 2), "decoder": 2 * 8 + 1}


# --- what else is made of a package ---------------------------------------------------------------------


def test_a_quantized_one_is_near(
    moonshine_package: Callable[[str], Package], tmp_path: Path, cpu: Device
) -> None:
    package = moonshine_package("plain")
    small = quantize(
        package, Quantize.model_validate({"scheme": "int8-dynamic", "min_cosine": 0.5}), tmp_path, QUIET
    )
    assert small.files["features.onnx"] == package.files["features.onnx"]
    assert small.cost.bytes < 0.8 * package.cost.bytes
    sessions = {role: open_session(model_path(small, role), cpu, entries={}) for role in small.graphs}
    scores = score_variant(small, sessions, package)
    assert {"wer", "agreement"} <= set(scores)


def test_calibration_feeds_are_of_the_sounds_own_lengths(
    moonshine_package: Callable[[str], Package], utterances: Utterances
) -> None:
    package = moonshine_package("plain")
    feeds = data_of_package(package).feeds
    lengths = [each["input_values"].shape for each in feeds["encoder"]]
    assert lengths == [(1, len(example_sound(package.folder, each))) for each in utterances]
    assert {"input_ids", "cross_key_0", "past_key_0"} <= set(feeds["decoder"][0])


def test_what_is_shorter_is_read_shorter(
    moonshine_package: Callable[[str], Package], cpu: Device, speech: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = moonshine_package("plain")
    transcriber = opened(package, cpu)
    read: list[tuple[int, ...]] = []
    real: Any = transcriber.decoder.read
    monkeypatch.setattr(
        transcriber.decoder, "read", lambda given: (read.append(given["input_values"].shape), real(given))
    )
    parts = timed_transcript(transcriber, speech(1, 0.5), 3)
    generate(transcriber, speech(1, 1.25), beams=1)
    assert read == [(1, 8000), (1, 20_000)]
    assert len(parts) == 3
    timed = TimedTranscript(package.folder, cpu)
    timed.run(None, {"audio_s": np.array(1)})
    assert all(len(times) == 1 and times[0] > 0 for times in timed.noted.values())


# --- losses and scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "distill", [{"logits": 1}, {"hidden": 1}, {"attention": 1}, {"logits": 1, "sequence": 2}]
)
def test_the_teacher_itself_has_no_loss(
    reading: Reading, utterances: Utterances, tmp_path: Path, distill: dict[str, int]
) -> None:
    teacher = load_model(reading.folder)
    settings = Finetune.model_validate({"steps": 2, "batch": 4, "task_loss": 0.0, "distill": distill})
    loss = task.losses(teacher, reading, utterances, settings, 0, tmp_path, QUIET)
    assert loss(teacher, 0).item() == pytest.approx(0, abs=1e-5)
    other = factored(teacher)
    assert loss(other, 0).item() > 1e-3
    own = Finetune.model_validate({"steps": 2, "batch": 4, "task_loss": 1.0})
    assert task.losses(teacher, reading, utterances, own, 0, tmp_path, QUIET)(teacher, 0).item() > 0.1
    masked = Finetune.model_validate({"steps": 2, "mask_time": 0.1})
    with pytest.raises(UsageError, match=r"finetune\.mask_time: this model has no masked positions"):
        task.losses(teacher, reading, utterances, masked, 0, tmp_path, QUIET)


def test_scores_are_those_of_the_transcripts(reading: Reading, utterances: Utterances) -> None:
    model = load_model(reading.folder)
    scores = task.scorer(model, reading, utterances)(model)
    assert (scores["agreement"], scores["wer_to_dense"]) == (1.0, 0.0)
    validate = task.validator(model, reading, utterances)
    assert validate(model) == 0.0
    assert validate(factored(model)) < -1e-3
    assert task.seen_tokens(reading, utterances) >= {0, 1, 2}


def test_the_dense_model_listens_once_for_all_packages_of_a_build(
    model: nn.Module, reading: Reading, utterances: Utterances, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = task.furnish(tmp_path, model, model, reading, utterances[:3], QUIET)
    monkeypatch.setattr(task, "transcribed", lambda *_: pytest.fail("it listened again"))
    second = task.furnish(tmp_path, model, model, reading, utterances[:3], QUIET)
    assert np.array_equal(first["dense_outputs"], second["dense_outputs"])


def test_a_language_cannot_be_asked_for(model: nn.Module, reading: Reading) -> None:
    with pytest.raises(UsageError, match=r"task\.language"):
        task.check_reach(model, replace(reading, source_language="de"))
