"""The task ``translation`` as the stages see it."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgelr.artifacts import Package, Source
from edgelr.examples import Translation
from edgelr.lowrank.reduce import restructure
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.runtime.generation import read_generation
from edgelr.runtime.tokens import open_codec
from edgelr.structure import Reduction
from edgelr.survey.sites import find_sites
from edgelr.tasks import translation as task
from edgelr.tasks.task import Reading, get_task, reading_of
from edgelr.tasks.translation_losses import generated
from edgelr.tasks.translation_model import collate

Pairs = tuple[Translation, ...]
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def model(tiny_translator: Path) -> nn.Module:
    return task.load_model(tiny_translator)


@pytest.fixture(scope="module")
def other(model: nn.Module) -> nn.Module:
    """A disturbed model."""
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return changed


def test_the_task_is_this_module_for_translations() -> None:
    assert get_task("translation") is task
    assert task.EXAMPLE is Translation
    assert task.SHRINKS_HEADS == "*_proj"


def test_a_reading_is_what_the_recipe_says(tmp_path: Path) -> None:
    from edgelr.recipe.tasks import Translate

    data = {"source": "file", "path": "a.tsv"}
    plain = Translate.model_validate({"type": "translation", "data": data, "max_tokens": 32})
    source = Source(
        folder=tmp_path / "s", model_folder=tmp_path, fingerprint="f", title="m", license=None, counts={}
    )
    expected = Reading(folder=tmp_path, max_tokens=32, fingerprint="f", sounds=tmp_path / "s" / "data")
    assert reading_of(source, plain) == expected
    more = {"prefix": "a: ", "source_language": "en", "target_language": "de"}
    full = plain.model_copy(update=more)
    assert reading_of(source, full) == replace(expected, **more)


def test_nothing_is_remembered_of_a_folder_that_was_changed(tiny_translator: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_translator, tmp_path / "model"))
    example = Translation(id="a", group="a", source="one two", target="eins")

    def first(fingerprint: str) -> int:
        batch = collate(Reading(folder=folder, max_tokens=8, fingerprint=fingerprint), [example])
        return int(batch["decoder_input_ids"][0, 0])

    before = first("before")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "decoder_start_token_id": 5}))
    assert (first("before"), first("after")) == (before, 5)


# --- scores -----------------------------------------------------------------------------------------


def test_the_dense_model_agrees_with_itself(
    model: nn.Module, other: nn.Module, translator_reading: Reading, translations: Pairs
) -> None:
    score = task.scorer(model, translator_reading, translations[:12])
    own = score(model)
    assert tuple(own) == METRICS["translation"]
    assert (own["agreement"], own["chrf_to_dense"]) == (1.0, 100.0)
    assert score(copy.deepcopy(model)) == own, "an equal model is translated, and says the same"
    changed = score(other)
    assert changed["agreement"] < 1.0
    assert changed["chrf_to_dense"] < 100.0


def test_scores_are_against_the_references(
    model: nn.Module, translator_reading: Reading, translations: Pairs
) -> None:
    said = generated(model, translator_reading, translations[:12])
    right = [replace(example, target=text) for example, text in zip(translations, said, strict=False)]
    assert all(example.target for example in right[:2])
    found = task.scorer(model, translator_reading, [each for each in right if each.target])(model)
    assert (found["exact_match"], found["chrf"]) == (1.0, 100.0)
    wrong = task.scorer(model, translator_reading, translations[:12])(model)
    assert wrong["exact_match"] == 0.0
    assert wrong["chrf"] < 50.0


def test_the_best_checkpoint_is_the_one_nearest_to_the_dense_model(
    model: nn.Module, other: nn.Module, translator_reading: Reading, translations: Pairs
) -> None:
    score = task.validator(model, translator_reading, translations)
    assert score(model) == 0.0
    halfway = copy.deepcopy(model)
    with torch.no_grad():
        for mine, theirs in zip(halfway.parameters(), other.parameters(), strict=True):
            mine.add_(0.2 * (theirs - mine))
    assert score(other) < score(halfway) < 0.0


# --- tokens -----------------------------------------------------------------------------------------


def test_seen_tokens_are_those_of_both_sides_and_the_special_ones(
    translator_reading: Reading, translations: Pairs
) -> None:
    (example,) = [Translation(id="a", group="a", source="one", target="zwei")]
    codec_ids = {0, 1, 86}
    tokens = task.tokenizer_of(translator_reading)
    expected = codec_ids | {*tokens("one").input_ids, *tokens("zwei").input_ids}
    assert task.seen_tokens(translator_reading, [example]) == expected
    assert task.seen_tokens(translator_reading, translations) > expected


def test_the_settings_of_a_package_are_what_its_runtime_needs(
    model: nn.Module, translator_reading: Reading
) -> None:
    plain = {"max_tokens": 48, "source_vocabulary": 87}
    assert task.package_settings(model, translator_reading) == plain
    more = {"prefix": "to German: ", "source_language": "en", "target_language": "de"}
    assert task.package_settings(model, replace(translator_reading, **more)) == {**plain, **more}


def test_a_factored_table_has_as_many_tokens(model: nn.Module, translator_reading: Reading) -> None:
    small = copy.deepcopy(model)
    found = find_sites(small, ("model.*", "lm_head"), (), vocabulary=True)
    (table,) = [site for site, module in found.sites.items() if isinstance(module, nn.Embedding)]
    shared = tuple(found.shared[table])
    restructure(small, [Reduction(form="low-rank", sites=(table,), rank=4, shared=shared)])
    assert type(task.token_table(small)).__name__ == "LowRankEmbedding"
    assert task.package_settings(small, translator_reading)["source_vocabulary"] == 87


# --- what a package holds ---------------------------------------------------------------------------


def furnished(folder: Path, model: nn.Module, reading: Reading, examples: Pairs) -> Any:
    folder.mkdir()
    return task.furnish(folder, model, model, reading, examples, QUIET)


def lines(arrays: dict[str, Any]) -> list[str]:
    assert list(arrays) == ["dense_outputs"]
    return arrays["dense_outputs"].tobytes().decode("utf-8").split("\n")


def test_a_package_is_furnished_with_what_the_runtime_reads_back(
    model: nn.Module, translator_reading: Reading, translations: Pairs, tmp_path: Path
) -> None:
    arrays = furnished(tmp_path / "p", model, translator_reading, translations[:9])
    codec = open_codec(tmp_path / "p", {"max_tokens": 48})
    text = translations[0].source
    assert codec.encode(text) == task.tokenizer_of(translator_reading)(text).input_ids
    assert read_generation(tmp_path / "p").decoder_start_token_id == 86
    assert arrays["dense_outputs"].dtype == np.uint8
    # In the order of the examples, though short ones were translated first.
    expected = [generated(model, translator_reading, [example])[0] for example in translations[:9]]
    assert lines(arrays) == expected
    assert len(set(expected)) > 3


def test_the_dense_model_speaks_once_for_all_packages_of_a_build(
    model: nn.Module, translator_reading: Reading, translations: Pairs, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = furnished(tmp_path / "a", model, translator_reading, translations[:5])

    def never(*_: object) -> list[str]:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(task, "generated", never)
        assert lines(furnished(tmp_path / "b", model, translator_reading, translations[:5])) == lines(first)
        with pytest.raises(AssertionError):
            furnished(tmp_path / "c", model, translator_reading, translations[:6])


def test_a_line_break_in_a_translation_stays_in_its_line(
    model: nn.Module, translator_reading: Reading, translations: Pairs, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(task, "generated", lambda *args: ["a\n b", "", "ü\u2028 c\r\n"][: len(args[2])])
    monkeypatch.setattr(task, "_dense_outputs", {})
    pairs = tuple(replace(each, source="x" * (1 + at)) for at, each in enumerate(translations[:3]))
    assert lines(furnished(tmp_path / "a", model, translator_reading, pairs)) == ["a b", "", "ü c"]


# --- graphs -----------------------------------------------------------------------------------------


def test_parity_cases_are_padded_batches_and_one_text_at_its_first_token(
    model: nn.Module, translator_reading: Reading, translations: Pairs
) -> None:
    encoder, decoder = task.graphs(model, translator_reading, translations)
    for spec in (encoder, decoder):
        assert [len(case["input_ids"]) for case in spec.cases] == [2, 1, 3]
        assert [bool((case["attention_mask"] == 0).any()) for case in spec.cases] == [True, False, True]
    assert [case["past_key_0"].shape[2] for case in decoder.cases] == [3, 0, 5]
    # The first token of a translation is the start token.
    assert decoder.cases[1]["input_ids"].tolist() == [[86]]


def test_one_short_example_is_enough(model: nn.Module, translator_reading: Reading) -> None:
    example = Translation(id="a", group="a", source="one", target="eins")
    for spec in task.graphs(model, translator_reading, [example]):
        assert [len(case["input_ids"]) for case in spec.cases] == [2, 1, 3]


def test_the_package_of_the_export_stage_is_whole(dense_translator: Package, translations: Pairs) -> None:
    assert set(dense_translator.files) >= {
        "encoder.onnx",
        "decoder.onnx",
        "tokenizer.json",
        "generation.json",
        "examples.jsonl",
        "reference.npz",
        "LICENSE-NOTICE",
    }
    assert dense_translator.settings == {"max_tokens": 48, "source_vocabulary": 87}
    assert dense_translator.graphs["decoder"].outputs[0].shape == ("batch", 1, 87)
    assert len(translations) == 149
