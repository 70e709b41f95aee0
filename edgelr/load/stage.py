"""Stage load: Recipe -> Source."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import assert_never

from edgelr.artifact_files import read_source, write_json
from edgelr.artifacts import SPLITS, Source, Split
from edgelr.errors import DataError
from edgelr.examples import AnyExample, Example, Utterance, write_examples
from edgelr.load.model_folder import card_license, fingerprint, label_names, window_s
from edgelr.load.pairs_file import read_pairs
from edgelr.load.passages import as_passages, read_passages
from edgelr.load.python_docs import collect
from edgelr.load.splits import split_by_group
from edgelr.progress import Progress
from edgelr.recipe.classify import (
    Classify,
    DocstringModules,
    ImagesFile,
    LabeledFile,
    TaggedFile,
    TagTokens,
)
from edgelr.recipe.custom import Custom, OwnRows
from edgelr.recipe.recommend import Interactions, Recommend, Train
from edgelr.recipe.schema import Recipe, TrainClassifier
from edgelr.recipe.tasks import (
    ArraysFile,
    CldrPairs,
    Generate,
    PairsFile,
    PythonDocs,
    SpokenPhrases,
    TextsFile,
    TranslationsDataset,
    TranslationsFile,
    UtterancesDataset,
    UtterancesFile,
)
from edgelr.runtime.graph import describe_graph

# The pairs that are drawn; a recipe takes its splits from these, so that a teacher's own splits are the same.
_CLDR_PAIRS = 45_000
_LONGEST_S = 30.0  # of a sound, whatever a model reads


def load(recipe: Recipe, recipe_folder: Path, model_folder: Path, folder: Path, progress: Progress) -> Source:
    """Read and split the data, and describe the dense model.

    Args:
        recipe: The checked recipe.
        recipe_folder: What paths in the recipe are relative to.
        model_folder: The dense model, see ``find_model``.
        folder: Where the Source is written.
        progress: Where to show how far it is.

    Raises:
        DataError: Data is missing, empty, malformed, or less than asked for.
    """
    splits: Mapping[Split, Sequence[AnyExample]]
    if isinstance(recipe.task, Custom):
        from edgelr.load.own_module import MODEL, load_own, own_fingerprint

        splits = load_own(recipe.task, _counts(recipe), recipe.seed, recipe_folder, folder)
        _tell_few(splits, _counts(recipe), progress)
        model, content = MODEL, own_fingerprint(folder / MODEL)
    else:
        splits = _splits(recipe, recipe_folder, model_folder, folder / "data", progress)
        model, content = str(model_folder), fingerprint(model_folder)
    if isinstance(recipe.task, Classify | TagTokens):
        from edgelr.load.labels_file import check_labels

        check_labels(splits, label_names(model_folder))
    for split in SPLITS:
        write_examples(folder / "data" / f"{split}.jsonl", splits[split])
    write_json(
        folder / "source.json",
        {
            "model_folder": model,
            "fingerprint": content,
            "title": recipe.model.title,
            "license": card_license(model_folder),
            "counts": {split: len(splits[split]) for split in SPLITS},
        },
    )
    return read_source(folder)


def train(recipe: Recipe, recipe_folder: Path, encoder: Path, folder: Path, progress: Progress) -> None:
    """Train the dense model of a recipe that brings none, on the same split of the data.

    Args:
        recipe: The checked recipe, with ``model.train``.
        recipe_folder: What paths in the recipe are relative to.
        encoder: The model that a classifier starts from.
        folder: Where the model is written.
        progress: Where to show how far it is.

    Raises:
        DataError: Data is missing, empty or malformed.
        DivergedError: The loss is not finite.
        UnsupportedModelError: The encoder is none, or cannot be trained.
    """
    if isinstance(recipe.model.train, TrainClassifier):
        from edgelr.tasks.classifier_training import train_classifier
        from edgelr.tasks.task import Reading

        assert isinstance(recipe.task, Classify)
        splits = _splits(recipe, recipe_folder, encoder, folder, progress)
        reading = Reading(folder=encoder, max_tokens=recipe.task.max_tokens)
        train_classifier(recipe.model.train, reading, splits, folder, recipe.seed, progress)
        return
    from edgelr.load.interactions import list_by_use, list_catalog, read_met, split_by_time
    from edgelr.tasks.recommendation_training import train_model

    assert isinstance(recipe.task, Recommend)
    assert isinstance(recipe.model.train, Train)
    met = read_met(recipe.task.data, recipe_folder)
    folder.mkdir()
    splits = split_by_time(met, list_catalog(met, folder), recipe.task.data, 1, progress)
    if recipe.model.train.item_groups:
        splits = list_by_use(met, splits, folder)
    facts = (met.user_facts, met.item_facts)
    train_model(recipe.model.train, splits, facts, folder, recipe.seed, progress)


def _counts(recipe: Recipe) -> dict[Split, int]:
    """How many examples each split is to have."""
    data = recipe.task.data
    assert not isinstance(data, Interactions), "which are split by time"
    return {
        "train": 0 if isinstance(data, ArraysFile) else data.train,
        "calibration": recipe.compress.calibration.examples,
        "validation": data.validation,
        "test": data.test,
    }


def _longest_s(recipe: Recipe, model_folder: Path) -> float:
    """How long a sound may be: what the candidate reads at once, and the dense model."""
    wanted = getattr(recipe.task, "window_s", None)
    return min(each for each in (wanted, window_s(model_folder), _LONGEST_S) if each is not None)


def _splits(
    recipe: Recipe, recipe_folder: Path, model_folder: Path, folder: Path, progress: Progress
) -> Mapping[Split, Sequence[AnyExample]]:
    calibration = recipe.compress.calibration.examples
    if isinstance(recipe.task, Recommend):
        from edgelr.load.interactions import model_catalog, read_met, split_by_time

        met = read_met(recipe.task.data, recipe_folder)
        return split_by_time(met, model_catalog(model_folder), recipe.task.data, calibration, progress)
    data = recipe.task.data
    counts = _counts(recipe)
    assert not isinstance(data, OwnRows), "which come with their module"
    if isinstance(data, ArraysFile):
        from edgelr.load.arrays import load_arrays

        graph = describe_graph(model_folder)
        return load_arrays(data.path, graph, counts, recipe.seed, recipe_folder, folder)
    if isinstance(data, ImagesFile):
        from edgelr.load.images_file import load_images

        labels = len(label_names(model_folder))
        return load_images(recipe_folder / data.path, counts, recipe.seed, folder, labels)
    if isinstance(data, SpokenPhrases):
        from edgelr.load.sounds import speak_phrases

        return speak_phrases(counts, recipe.seed, folder, progress)
    if isinstance(data, UtterancesFile | UtterancesDataset):
        return _recorded(
            recipe, data, counts, recipe_folder, folder, _longest_s(recipe, model_folder), progress
        )
    kept = {"hold_out": data.hold_out, "train_only": data.train_only} if isinstance(data, PythonDocs) else {}
    examples = _read(data, recipe_folder, progress)
    _check_some(examples)
    if isinstance(recipe.task, Generate):
        examples = as_passages([each for each in examples if isinstance(each, Example)]) or examples
    return split_by_group(examples, counts, seed=recipe.seed, **kept)


def _recorded(
    recipe: Recipe,
    data: UtterancesFile | UtterancesDataset,
    counts: dict[Split, int],
    recipe_folder: Path,
    folder: Path,
    longest_s: float,
    progress: Progress,
) -> Mapping[Split, Sequence[Utterance]]:
    from edgelr.load.sounds import keep_sounds, short_enough
    from edgelr.load.utterances_dataset import read_utterances_dataset
    from edgelr.load.utterances_file import read_utterances

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        if isinstance(data, UtterancesFile):
            examples = read_utterances(recipe_folder / data.path)
        else:
            examples = read_utterances_dataset(data, recipe_folder, Path(scratch), progress)
        _check_some(examples)
        fitting = short_enough(examples, longest_s, progress)
        return keep_sounds(split_by_group(fitting, counts, seed=recipe.seed), folder, progress)


def _tell_few(
    splits: Mapping[Split, Sequence[AnyExample]], wanted: Mapping[Split, int], progress: Progress
) -> None:
    for split, found in splits.items():
        if len(found) < wanted[split]:
            progress.warn(f"batches('{split}') gives {len(found)} rows, {wanted[split]} were asked for")


def _check_some(examples: Sequence[AnyExample]) -> None:
    if not examples:
        raise DataError("task.data: no example was found", "check the source of the data")


def _read(  # noqa: PLR0911 - one a source of data
    data: PythonDocs
    | PairsFile
    | CldrPairs
    | TranslationsFile
    | TranslationsDataset
    | LabeledFile
    | DocstringModules
    | TaggedFile
    | TextsFile,
    recipe_folder: Path,
    progress: Progress,
) -> tuple[AnyExample, ...]:
    match data:
        case PythonDocs():
            return collect(data.packages, progress)
        case PairsFile():
            return read_pairs(recipe_folder / data.path)
        case CldrPairs():
            from edgelr.load.cldr import collect as collect_translations

            return collect_translations(data.languages, _CLDR_PAIRS, progress)
        case TranslationsFile():
            from edgelr.load.translations_file import read_translations

            return read_translations(recipe_folder / data.path)
        case TranslationsDataset():
            from edgelr.load.translations_dataset import read_dataset

            return read_dataset(data, recipe_folder, progress)
        case LabeledFile():
            from edgelr.load.labels_file import read_labeled

            return read_labeled(recipe_folder / data.path)
        case DocstringModules():
            from edgelr.load.docstring_modules import collect as collect_docstrings

            return collect_docstrings(data.packages, data.modules, progress)
        case TaggedFile():
            from edgelr.load.tags_file import read_tagged

            return read_tagged(recipe_folder / data.path)
        case TextsFile():
            return read_passages(recipe_folder / data.path)
        case _:
            assert_never(data)
