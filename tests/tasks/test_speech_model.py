"""The model behind ``automatic-speech-recognition``: strict loading, its window, its prompt, and batches."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgelr.errors import DataError, UnsupportedModelError, UsageError
from edgelr.examples import Utterance
from edgelr.runtime.audio import read_audio
from edgelr.survey.sites import find_sites
from edgelr.tasks.sequence_losses import TARGETS
from edgelr.tasks.speech_folder import tokenizer_of
from edgelr.tasks.speech_model import (
    FEATURES,
    check_reach,
    collate,
    example_batches,
    frames_of,
    load_model,
    padded_sounds,
    prompt_of,
    run,
    shorten_window,
    sound_of,
    token_table,
    window_positions,
    window_samples,
)
from edgelr.tasks.task import Batch, Reading

Spoken = tuple[Utterance, ...]
EOS, START, PLAIN = 289, 290, 296
WINDOW = 32_000


@pytest.fixture(scope="module")
def model(tiny_whisper: Path) -> Any:
    return load_model(tiny_whisper)


@pytest.fixture(scope="module")
def batch(speech_reading: Reading, utterances: Spoken) -> Batch:
    return collate(speech_reading, utterances[:6])


@pytest.fixture
def folder(tiny_whisper: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Whisper to break."""
    return Path(shutil.copytree(tiny_whisper, tmp_path / "m"))


def configure(folder: Path, name: str = "config.json", **values: object) -> None:
    """Change what a file says; None takes it out."""
    document = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps({k: v for k, v in document.items() if v is not None}))


def without_start(folder: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        configure(folder, name, decoder_start_token_id=None)


# --- loading --------------------------------------------------------------------------------------------


def test_the_model_is_loaded_at_rest_with_one_vocabulary(model: Any) -> None:
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert token_table(model).weight is model.proj_out.weight
    assert model.generation_config.decoder_start_token_id == START


def test_weights_in_half_precision_are_computed_with_in_single(tiny_whisper: Path, tmp_path: Path) -> None:
    load_model(tiny_whisper).half().save_pretrained(tmp_path)  # type: ignore[operator]
    found = load_model(tmp_path)
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}


def drop(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def spoil(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.encoder.conv1.weight"][0, 0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def wav2vec2(folder: Path) -> None:
    from transformers import Wav2Vec2Config

    shutil.rmtree(folder)
    Wav2Vec2Config().save_pretrained(folder)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing tensor": (
        lambda f: drop(f, "model.encoder.conv2.weight"),
        "1 tensors of the checkpoint are missing: model.encoder.conv2.weight",
    ),
    "not a number": (spoil, "'model.encoder.conv1.weight' holds 1 values that are not finite"),
    "fewer layers": (lambda f: configure(f, encoder_layers=1), "of the checkpoint are unexpected"),
    "another window": (lambda f: configure(f, max_source_positions=50), "cannot be loaded as a speech model"),
    "no start": (without_start, "does not say with which token .* starts"),
    "CTC": (wav2vec2, r"is a model of type 'wav2vec2'.*\n.*whisper"),
    "no model at all": (lambda f: (f / "config.json").write_text("[]"), "is a model of type None"),
    "no configuration": (lambda f: (f / "config.json").unlink(), r"config\.json cannot be read"),
    "cut": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
        "cannot be loaded as a speech model: SafetensorError",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_hear_is_refused(folder: Path, fault: str) -> None:
    breaks, message = FAULTS[fault]
    breaks(folder)
    with pytest.raises(UnsupportedModelError, match=message) as error:
        load_model(folder)
    assert error.value.exit_code == 4
    assert str(folder) in str(error.value)


# --- the window -----------------------------------------------------------------------------------------


def test_the_window_is_what_the_table_of_positions_reaches(model: Any) -> None:
    assert window_positions(model) == 100
    assert frames_of(model) == 200
    assert window_samples(model) == WINDOW


def test_a_cut_window_is_the_first_part_of_the_models_own(tiny_whisper: Path, batch: Batch) -> None:
    """Layer by layer it is another model: attention sees less. Its convolutions are the same."""
    whole, cut = load_model(tiny_whisper), load_model(tiny_whisper)
    shorten_window(cut, 1.2)
    assert (window_positions(cut), frames_of(cut), window_samples(cut)) == (60, 120, 19_200)
    tables = [each.get_encoder().embed_positions.weight for each in (whole, cut)]  # type: ignore[operator]
    assert torch.equal(tables[1], tables[0][:60])
    assert not tables[1].requires_grad
    fewer = sum(each.numel() for each in whole.parameters()) - sum(each.numel() for each in cut.parameters())
    assert fewer == 40 * 32
    with torch.inference_mode():
        found = cut(input_features=batch[FEATURES][..., :120], decoder_input_ids=batch["decoder_input_ids"])
    assert found.encoder_last_hidden_state.shape == (6, 60, 32)


def test_a_cut_window_is_a_model_of_that_size(tiny_whisper: Path, batch: Batch) -> None:
    """The same as one that was made with fewer positions."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    cut = load_model(tiny_whisper)
    config = WhisperConfig.from_pretrained(tiny_whisper, max_source_positions=60)
    made = WhisperForConditionalGeneration(config).eval()
    tensors = load_file(tiny_whisper / "model.safetensors")
    name = "model.encoder.embed_positions.weight"
    made.load_state_dict({**tensors, name: tensors[name][:60]}, strict=False)
    made.tie_weights()
    shorten_window(cut, 1.2)
    inputs = {FEATURES: batch[FEATURES][..., :120], "decoder_input_ids": batch["decoder_input_ids"]}
    with torch.inference_mode():
        assert torch.equal(cut(**inputs).logits, made(**inputs).logits)


def test_positions_are_no_layer_to_be_factored(tiny_whisper: Path) -> None:
    """Not even with the vocabulary: every one of them is read at any time."""
    for seconds in (None, 1.2):
        model = load_model(tiny_whisper)
        if seconds is not None:
            shorten_window(model, seconds)
        found = find_sites(model, ("*",), (), vocabulary=True)
        tables = [name for name, module in found.sites.items() if isinstance(module, nn.Embedding)]
        assert tables == ["model.decoder.embed_tokens"]
        assert {"model.encoder.embed_positions", "model.decoder.embed_positions"} <= {
            each.name for each in found.skipped
        }


def test_the_whole_window_may_be_asked_for_and_no_more(tiny_whisper: Path) -> None:
    model = load_model(tiny_whisper)
    shorten_window(model, 2.0)
    assert window_samples(model) == WINDOW
    with pytest.raises(UsageError, match=r"task\.window_s: 2\.5 s were asked for, .* is 2 s\n.*at most 2,"):
        shorten_window(model, 2.5)


# --- what goes with it ----------------------------------------------------------------------------------


def processor_of(folder: Path, **values: object) -> None:
    """Write the configuration of another feature extractor into a folder."""
    from transformers import WhisperFeatureExtractor

    for path in folder.glob("*processor_config.json"):
        path.unlink()
    WhisperFeatureExtractor(**{"chunk_length": 2, **values}).save_pretrained(folder)


def test_an_extractor_with_other_bands_is_found(folder: Path, model: Any) -> None:
    processor_of(folder, feature_size=128)
    with pytest.raises(UnsupportedModelError, match="gives 128 mel bands, and the model reads 80") as caught:
        check_reach(model, Reading(folder=folder, max_tokens=24))
    assert caught.value.exit_code == 4


def test_a_tokenizer_of_other_tokens_is_found(model: Any, folder: Path) -> None:
    for path in folder.glob("tokenizer*.json"):
        path.write_text(path.read_text().replace("<|startoftranscript|>", "<|startofsomething|>"))
    with pytest.raises(
        UnsupportedModelError, match=r"calls the first token of transcripts, 290, '<\|startofsomething\|>'"
    ):
        check_reach(model, Reading(folder=folder, max_tokens=24))


def test_a_tokenizer_of_a_larger_model_is_found(model: Any, many_reading: Reading) -> None:
    """Two files of one folder that do not belong together."""
    with pytest.raises(UnsupportedModelError, match="has a token 400, and the model knows 297 tokens"):
        check_reach(model, many_reading)


def test_transcripts_are_no_longer_than_the_model_has_positions(model: Any, speech_reading: Reading) -> None:
    check_reach(model, replace(speech_reading, max_tokens=32))
    with pytest.raises(UsageError, match=r"task\.max_tokens: 33 .* has 32 positions\n.*at most 32"):
        check_reach(model, replace(speech_reading, max_tokens=33))


# --- the prompt -----------------------------------------------------------------------------------------


def test_a_model_of_one_language_is_only_told_to_leave_times_out(model: Any, speech_reading: Reading) -> None:
    assert prompt_of(model, speech_reading) == [PLAIN]


@pytest.mark.parametrize("language", ["en", "zh", "de"])
def test_a_model_of_many_is_told_language_task_and_format(many_reading: Reading, language: str) -> None:
    reading = replace(many_reading, source_language=language)
    tokens = tokenizer_of(reading).convert_ids_to_tokens(prompt_of(load_model(reading.folder), reading))
    assert tokens == [f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>"]


@pytest.mark.parametrize(
    ("language", "found"), [(None, "no language is given"), ("xx", r"it knows no <\|xx\|>")]
)
def test_a_language_must_be_given_and_known(many_reading: Reading, language: Any, found: str) -> None:
    model = load_model(many_reading.folder)
    with pytest.raises(
        UsageError, match=rf"task\.language: .*hears several languages, and {found}\n.*: de, en, zh"
    ) as caught:
        prompt_of(model, replace(many_reading, source_language=language))
    assert caught.value.exit_code == 2


def test_a_language_of_a_model_that_knows_one_is_refused(model: Any, speech_reading: Reading) -> None:
    """transformers would refuse it, too, an hour later."""
    with pytest.raises(UsageError, match=r"task\.language: .* knows one language only\n.*leave it out"):
        check_reach(model, replace(speech_reading, source_language="de"))


def test_a_missing_language_is_said_before_anything_is_run(many_reading: Reading) -> None:
    model = load_model(many_reading.folder)
    check_reach(model, many_reading)
    with pytest.raises(UsageError, match="no language is given"):
        check_reach(model, replace(many_reading, source_language=None))


# --- batches --------------------------------------------------------------------------------------------


def tokens(ids: Tensor, mask: Tensor, row: int) -> list[int]:
    return [int(each) for each in ids[row][mask[row] == 1]]


def test_a_batch_is_whole_windows_and_padded_transcripts(
    batch: Batch, speech_reading: Reading, utterances: Spoken
) -> None:
    assert batch[FEATURES].shape == (6, 80, 200)
    tokenizer = tokenizer_of(speech_reading)
    for row, example in enumerate(utterances[:6]):
        ids = tokenizer(example.text, add_special_tokens=False).input_ids
        assert tokens(batch["decoder_input_ids"], batch[TARGETS], row) == [START, PLAIN, *ids]
        assert tokens(batch["labels"], batch[TARGETS], row) == [PLAIN, *ids, EOS]
    padding = batch[TARGETS] == 0
    assert padding.any()
    assert (batch["labels"][padding] == -100).all()
    assert (batch["decoder_input_ids"][padding] == EOS).all()


def test_a_transcript_is_as_the_tokenizer_itself_has_it(many_reading: Reading, utterances: Spoken) -> None:
    """Whisper's own tokenizer knows the prompt, too."""
    tokenizer = copy.deepcopy(tokenizer_of(many_reading))
    tokenizer.set_prefix_tokens(language="german", task="transcribe", predict_timestamps=False)
    batch = collate(many_reading, utterances[:3])
    for row, example in enumerate(utterances[:3]):
        assert tokens(batch["labels"], batch[TARGETS], row) == tokenizer(example.text).input_ids[1:]


def test_the_longest_transcripts_need_no_more_positions_than_asked(
    model: Any, speech_reading: Reading, utterances: Spoken
) -> None:
    batch = collate(speech_reading, [replace(utterances[0], text="one " * 90)])
    assert batch["labels"].shape == (1, 24)
    assert batch["labels"][0, -1] == EOS
    with torch.inference_mode():
        assert torch.isfinite(run(model, batch).result).all()


def test_an_empty_transcript_is_one(speech_reading: Reading, utterances: Spoken) -> None:
    batch = collate(speech_reading, [replace(utterances[0], text="")])
    assert batch["labels"].tolist() == [[PLAIN, EOS]]


def test_sounds_are_filled_with_silence_or_cut(speech_reading: Reading, utterances: Spoken) -> None:
    short, long = utterances[0], utterances[-1]
    found = padded_sounds(speech_reading, [short, long], 16_000)
    assert found.shape == (2, 16_000)
    assert np.array_equal(found[0, :8000], sound_of(speech_reading, short))
    assert not found[0, 8000:].any()
    assert np.array_equal(found[1], sound_of(speech_reading, long)[:16_000])


def test_a_sound_is_where_the_examples_are_listed(speech_reading: Reading, utterances: Spoken) -> None:
    assert speech_reading.sounds is not None
    expected = read_audio(speech_reading.sounds / utterances[3].audio)
    assert np.array_equal(sound_of(speech_reading, utterances[3]), expected)
    with pytest.raises(DataError, match=r"gone\.flac cannot be read"):
        sound_of(speech_reading, replace(utterances[3], audio="audio/gone.flac"))


def test_batches_hold_every_example_once_and_are_of_similar_length(
    speech_reading: Reading, utterances: Spoken
) -> None:
    batches = example_batches(speech_reading, utterances[::-1], 5)
    assert [len(batch["labels"]) for batch in batches] == [5, 5, 2]
    widths = [batch["labels"].shape[1] for batch in batches]
    assert widths == sorted(widths)
    rows = [
        tuple(tokens(batch["labels"], batch[TARGETS], row))
        for batch in batches
        for row in range(5)[: len(batch["labels"])]
    ]
    assert len(rows) == len(utterances)
    assert len(set(rows)) == len({each.text for each in utterances})


# --- run ------------------------------------------------------------------------------------------------


def test_logits_are_the_models_own_and_0_where_there_is_padding(model: Any, batch: Batch) -> None:
    inputs = {name: batch[name] for name in (FEATURES, "decoder_input_ids")}
    with torch.inference_mode():
        own, found = model(**inputs).logits, run(model, batch).result
    counted = batch[TARGETS] == 1
    assert torch.equal(found[counted], own[counted])
    assert not found[~counted].any()


def test_padding_changes_nothing_before_it(model: Any, speech_reading: Reading, utterances: Spoken) -> None:
    """The decoder sees no later token, so that it needs no mask."""
    with torch.inference_mode():
        together = run(model, collate(speech_reading, utterances[:6])).result
        alone = run(model, collate(speech_reading, utterances[:1])).result
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-4, rtol=0)  # float sums


def test_states_and_attention_are_kept_when_asked_for(tiny_whisper: Path, batch: Batch) -> None:
    model: Any = load_model(tiny_whisper)
    model.set_attn_implementation("eager")
    rows, target = batch["labels"].shape
    with torch.inference_mode():
        out = run(model, batch, hidden=True, attention=True)
        assert run(model, batch).hidden == run(model, batch).attention == ()
    lengths = [100, 100, target, target]
    assert [tuple(states.shape) for states in out.hidden] == [(rows, length, 32) for length in lengths]
    assert [tuple(looks.shape) for looks in out.attention] == [(rows, 4, target, 100)] * 2


def test_a_shorter_window_reads_the_first_part_of_a_batch(tiny_whisper: Path, batch: Batch) -> None:
    model = load_model(tiny_whisper)
    shorten_window(model, 1.0)
    first: Batch = {**batch, FEATURES: batch[FEATURES][..., :100]}
    with torch.inference_mode():
        assert torch.equal(run(model, batch).result, run(model, first).result)


def test_padding_has_no_gradient(model: Any, batch: Batch) -> None:
    states: list[Tensor] = []

    def keep(_: nn.Module, __: object, out: Tensor) -> None:
        out.retain_grad()
        states.append(out)

    handle = model.proj_out.register_forward_hook(keep)
    run(model, batch).result.square().sum().backward()
    handle.remove()
    model.zero_grad()
    (grad,) = [each.grad for each in states]
    assert grad is not None
    assert not grad[batch[TARGETS] == 0].any()
