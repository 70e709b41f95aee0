"""The model of the task ``translation``: strict loading, batches, and how far two models are apart."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.examples import Translation
from edgelr.tasks.task import Batch, Reading
from edgelr.tasks.translation_model import (
    TARGETS,
    check_reach,
    collate,
    distance,
    example_batches,
    language_token,
    load_model,
    probe,
    run,
    start_token,
    token_table,
    tokenizer_of,
)

EOS, PAD = 0, 86


@pytest.fixture(scope="module")
def model(tiny_translator: Path) -> nn.Module:
    return load_model(tiny_translator)


@pytest.fixture(scope="module")
def batch(translator_reading: Reading, translations: tuple[Translation, ...]) -> Batch:
    return collate(translator_reading, translations[:6])


@pytest.fixture
def folder(tiny_translator: Path, tmp_path: Path) -> Path:
    """A copy of the tiny translator to break."""
    return Path(shutil.copytree(tiny_translator, tmp_path / "m"))


def configure(folder: Path, **values: object) -> None:
    """Change what both configurations say; None takes it out."""
    for name in ("config.json", "generation_config.json"):
        document = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps({k: v for k, v in document.items() if v is not None}))


# --- loading ----------------------------------------------------------------------------------------


def test_the_model_is_loaded_at_rest_with_one_vocabulary(model: nn.Module) -> None:
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert token_table(model).weight is model.lm_head.weight
    assert model.generation_config.decoder_start_token_id == PAD


def drop(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    shutil.rmtree(folder)
    BertModel(config).save_pretrained(folder)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing tensor": (
        lambda f: drop(f, "model.decoder.layers.1.encoder_attn.k_proj.weight"),
        "1 tensors of the checkpoint are missing: model.decoder.layers.1.encoder_attn.k_proj.weight",
    ),
    "fewer layers": (lambda f: configure(f, decoder_layers=1), "of the checkpoint are unexpected"),
    "no start": (lambda f: configure(f, decoder_start_token_id=None), "a translation starts"),
    "an encoder": (bert, "cannot be loaded as a translation model: ValueError"),
    "an encoder that says so": (
        lambda f: configure(f, is_encoder_decoder=False),
        "is no encoder-decoder: it cannot translate",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_translate_is_refused(folder: Path, fault: str) -> None:
    breaks, message = FAULTS[fault]
    breaks(folder)
    with pytest.raises(UnsupportedModelError, match=message) as error:
        load_model(folder)
    assert error.value.exit_code == 4


def test_a_start_token_in_one_of_the_two_files_is_enough(folder: Path) -> None:
    document = json.loads((folder / "generation_config.json").read_text())
    del document["decoder_start_token_id"]
    (folder / "generation_config.json").write_text(json.dumps(document))
    model = load_model(folder)
    assert start_token(folder) == model.generation_config.decoder_start_token_id == PAD
    (example,) = [Translation(id="a", group="a", source="one", target="eins")]
    assert collate(Reading(folder=folder, max_tokens=8), [example])["decoder_input_ids"][0, 0] == PAD


# --- tokenizer and reach ----------------------------------------------------------------------------


def test_the_tiny_translator_reaches_as_far_as_it_has_positions(
    model: nn.Module, translator_reading: Reading
) -> None:
    check_reach(model, replace(translator_reading, max_tokens=64))
    with pytest.raises(UsageError, match=r"task\.max_tokens: 65 .* has 64 positions") as error:
        check_reach(model, replace(translator_reading, max_tokens=65))
    assert "at most 64" in str(error.value)


def test_a_tokenizer_of_a_larger_model_is_found(folder: Path, model: nn.Module) -> None:
    tokenizer = tokenizer_of(Reading(folder=folder, max_tokens=48))
    tokenizer.add_tokens(["one-more"])
    with pytest.raises(UnsupportedModelError, match="has a token 87, and the model knows 87 tokens"):
        check_reach(model, Reading(folder=folder, max_tokens=48))


def test_a_folder_without_a_tokenizer_is_named(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UnsupportedModelError, match="has no usable tokenizer") as error:
        tokenizer_of(Reading(folder=folder, max_tokens=8))
    assert str(folder) in str(error.value)


def test_a_language_must_be_known(m2m_tokenizer: Path, translator_reading: Reading) -> None:
    """A word is none, and a model of one pair of languages knows none at all."""
    assert "one" in tokenizer_of(translator_reading).get_vocab()
    one = translator_reading.folder
    for folder, source, target, unknown in (
        (one, "one", "one", "one"),
        (m2m_tokenizer, "xx", "en", "xx"),
        (m2m_tokenizer, "en", "xx", "xx"),
    ):
        reading = Reading(folder=folder, max_tokens=8, source_language=source, target_language=target)
        with pytest.raises(UsageError, match=f"knows no language '{unknown}'") as caught:
            tokenizer_of(reading)
        assert str(folder) in str(caught.value)


def test_the_token_of_a_language_is_none_that_a_word_may_have(m2m_tokenizer: Path) -> None:
    reading = Reading(folder=m2m_tokenizer, max_tokens=8, source_language="en", target_language="de")
    tokenizer = tokenizer_of(reading)
    assert "de" in tokenizer.get_vocab(), "or nothing could be mixed up"
    assert language_token(reading) == tokenizer.get_lang_id("de") != tokenizer.get_vocab()["de"]


@pytest.mark.parametrize("written", ["eng_Latn", "__fr__"])
def test_the_token_of_a_language_is_found_in_either_spelling(folder: Path, written: str) -> None:
    tokenizer = tokenizer_of(Reading(folder=folder, max_tokens=8))
    tokenizer.add_tokens([written])
    tokenizer.save_pretrained(folder)
    code = written.strip("_")
    reading = Reading(folder=folder, max_tokens=8, source_language=code, target_language=code)
    assert language_token(reading) == 87


# --- batches ----------------------------------------------------------------------------------------


def test_a_batch_is_the_tokens_of_both_texts_padded(
    batch: Batch, translator_reading: Reading, translations: tuple[Translation, ...]
) -> None:
    tokenizer = tokenizer_of(translator_reading)
    for row, example in enumerate(translations[:6]):
        source, target = tokenizer(example.source).input_ids, tokenizer(example.target).input_ids
        assert source[-1] == target[-1] == EOS
        assert tokens(batch["input_ids"], batch["attention_mask"], row) == source
        assert tokens(batch["labels"], batch[TARGETS], row) == target
        assert tokens(batch["decoder_input_ids"], batch[TARGETS], row) == [PAD, *target[:-1]]
    padding = batch[TARGETS] == 0
    assert padding.any()
    assert (batch["labels"][padding] == -100).all()
    assert (batch["decoder_input_ids"][padding] == PAD).all()
    assert (batch["input_ids"][batch["attention_mask"] == 0] == PAD).all()


def tokens(ids: Tensor, mask: Tensor, row: int) -> list[int]:
    return ids[row][mask[row] == 1].tolist()


def test_sources_and_targets_never_have_one_length(
    translator_reading: Reading, translations: tuple[Translation, ...]
) -> None:
    same = [replace(example, target=example.source) for example in translations[:30]]
    batches = [collate(translator_reading, [*same[:size]]) for size in range(1, 30)]
    assert all(batch["input_ids"].shape[1] != batch["labels"].shape[1] for batch in batches)


def test_the_longest_texts_need_no_more_positions_than_the_model_has(
    model: nn.Module, translator_reading: Reading
) -> None:
    long = Translation(id="a", group="a", source="one " * 90, target="eins " * 90)
    batch = collate(replace(translator_reading, max_tokens=64), [long])
    assert {batch["input_ids"].shape[1], batch["labels"].shape[1]} == {64, 63}
    assert batch["input_ids"][0, -1] == batch["labels"][0, -1] == EOS
    with torch.inference_mode():
        assert torch.isfinite(run(model, batch).result).all()


def test_a_prefix_goes_before_every_source(translator_reading: Reading) -> None:
    example = Translation(id="a", group="a", source="one", target="eins")
    prefixed = collate(replace(translator_reading, prefix="two "), [example])
    written = collate(translator_reading, [replace(example, source="two one")])
    assert torch.equal(prefixed["input_ids"], written["input_ids"])
    assert torch.equal(prefixed["labels"], written["labels"])


def test_batches_hold_every_example_once_and_are_of_similar_length(
    translator_reading: Reading, translations: tuple[Translation, ...]
) -> None:
    batches = example_batches(translator_reading, translations, 20)
    assert [len(batch["labels"]) for batch in batches] == [20] * 7 + [9]
    rows = [
        tuple(tokens(batch["labels"], batch[TARGETS], row))
        for batch in batches
        for row in range(20)[: len(batch["labels"])]
    ]
    assert len(set(rows)) == len({example.target for example in translations})
    widths = [batch["input_ids"].shape[1] for batch in batches]
    assert widths[0] < widths[-1] / 2


# --- run --------------------------------------------------------------------------------------------


def test_logits_are_the_models_own_and_0_where_there_is_padding(model: nn.Module, batch: Batch) -> None:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    with torch.inference_mode():
        own, found = model(**inputs).logits, run(model, batch).result
    counted = batch[TARGETS] == 1
    assert torch.equal(found[counted], own[counted])
    assert not found[~counted].any()


def test_states_and_attention_are_kept_when_asked_for(tiny_translator: Path, batch: Batch) -> None:
    model = load_model(tiny_translator)
    model.set_attn_implementation("eager")  # type: ignore[operator]
    rows, source = batch["input_ids"].shape
    target = batch["labels"].shape[1]
    with torch.inference_mode():
        out = run(model, batch, hidden=True, attention=True)
        assert run(model, batch).hidden == run(model, batch).attention == ()
    lengths = [source, source, target, target]
    assert [tuple(states.shape) for states in out.hidden] == [(rows, length, 32) for length in lengths]
    assert [tuple(looks.shape) for looks in out.attention] == [(rows, 4, target, source)] * 2
    assert not out.attention[0][
        (batch["attention_mask"] == 0)[:, None, None].expand(out.attention[0].shape)
    ].any()


# --- distance and probe -----------------------------------------------------------------------------


def logits(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_distance_is_torchs_divergence_of_each_translation() -> None:
    own, reference = logits(3, 5, 7, seed=0), logits(3, 5, 7, seed=1)
    expected = [
        nn.functional.kl_div(
            own[row].log_softmax(-1), reference[row].log_softmax(-1), reduction="sum", log_target=True
        )
        for row in range(3)
    ]
    torch.testing.assert_close(distance(own, reference), torch.stack(expected))


def test_equal_outputs_have_no_distance_and_others_have_one() -> None:
    own = logits(3, 5, 7, seed=0)
    assert distance(own, own).tolist() == [0, 0, 0]
    assert (distance(own, own + 1e-4 * logits(3, 5, 7, seed=2)) >= 0).all(), (
        "rounding is no negative distance"
    )
    # A distribution is the same whatever is added to all of its logits.
    torch.testing.assert_close(distance(own + 5.0, own), torch.zeros(3), atol=1e-5, rtol=0)


def test_padding_adds_no_distance() -> None:
    own, reference = logits(2, 5, 7, seed=0), logits(2, 5, 7, seed=1)
    longer = [nn.functional.pad(each, (0, 0, 0, 4)) for each in (own, reference)]
    torch.testing.assert_close(distance(*longer), distance(own, reference))


def test_squared_gradients_of_the_probe_average_to_fishers_diagonal() -> None:
    """For a distribution ``p`` that is ``p (1 - p)``."""
    torch.manual_seed(0)
    scores = logits(4, seed=3)
    draws = 40_000
    result = scores.expand(1, draws, 4).clone().requires_grad_()
    probe(result).backward()
    assert result.grad is not None
    p = scores.softmax(-1)
    # The standard error of a mean of 40,000 numbers between 0 and 1 is at most 0.0025.
    torch.testing.assert_close(result.grad.square().mean((0, 1)), p * (1 - p), atol=0.0125, rtol=0)
    torch.testing.assert_close(result.grad.mean((0, 1)), torch.zeros(4), atol=0.0125, rtol=0)


def test_the_curvature_of_the_distance_is_that_of_the_probe() -> None:
    """Twice the distance of a small change is the change's square in Fisher's metric."""
    scores, step = logits(1, 1, 4, seed=3).double(), 1e-3 * logits(1, 1, 4, seed=4).double()
    p = scores.softmax(-1)
    fisher = (p * step.square()).sum() - (p * step).sum().square()
    torch.testing.assert_close(2 * distance(scores + step, scores)[0], fisher, rtol=1e-2, atol=0)


def test_padding_has_no_gradient(model: nn.Module, batch: Batch) -> None:
    states: list[Tensor] = []

    def keep(_: nn.Module, __: object, out: Tensor) -> None:
        out.retain_grad()
        states.append(out)

    handle = model.lm_head.register_forward_hook(keep)  # type: ignore[union-attr]
    torch.manual_seed(0)
    probe(run(model, batch).result).backward()
    handle.remove()
    model.zero_grad()
    (grad,) = [each.grad for each in states]
    assert grad is not None
    assert not grad[batch[TARGETS] == 0].any()
    assert grad[batch[TARGETS] == 1].any(-1).all()
