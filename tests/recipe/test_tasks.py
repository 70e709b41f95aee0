"""The section ``task``: which one it is, and what belongs together in it."""

import pytest
from pydantic import TypeAdapter, ValidationError

from edgelr.recipe.schema import Recipe
from edgelr.recipe.tasks import (
    CldrPairs,
    Generate,
    PairsFile,
    PythonDocs,
    SentenceEmbedding,
    TextsFile,
    Translate,
    TranslationsFile,
)

FILE = {"source": "file", "path": "a.tsv"}
TRANSLATE = {"type": "translation", "data": FILE}
MODEL = {"model": {"path": "m"}, "compress": {"keep": {"parameters": 0.5}}}


def task(**section):
    return Recipe.model_validate({"edgelr": 1, "name": "a", "task": section, **MODEL}).task


def test_the_type_says_which_task_it_is():
    assert isinstance(task(type="sentence-embedding", data=FILE), SentenceEmbedding)
    assert isinstance(task(**TRANSLATE), Translate)
    with pytest.raises(ValidationError, match="'sentence-embedding', 'translation'"):
        task(type="summary", data=FILE)


def test_a_file_is_of_the_tasks_own_shape():
    pairs, translations = task(type="sentence-embedding", data=FILE).data, task(**TRANSLATE).data
    assert isinstance(pairs, PairsFile)
    assert isinstance(translations, TranslationsFile)
    assert pairs.train < translations.train


def test_data_of_the_other_task_is_refused():
    cldr = {"source": "cldr", "languages": ("en", "de")}
    assert task(type="translation", data=cldr).data == CldrPairs.model_validate(cldr)
    with pytest.raises(ValidationError, match="'python-docs', 'file'"):
        task(type="sentence-embedding", data=cldr)
    with pytest.raises(ValidationError, match="'cldr', 'file'"):
        task(type="translation", data={"source": "python-docs"})


@pytest.mark.parametrize("languages", [(), ("en",), ("en", "de", "fr")])
def test_translations_are_between_two_languages(languages):
    with pytest.raises(ValidationError, match="languages"):
        TypeAdapter(CldrPairs).validate_python({"source": "cldr", "languages": languages})


def test_both_languages_are_given_or_neither():
    both = task(**TRANSLATE, source_language="en", target_language="de")
    assert (both.source_language, both.target_language) == ("en", "de")
    for name in ("source_language", "target_language"):
        with pytest.raises(ValidationError, match="belong together: give both or neither"):
            task(**TRANSLATE, **{name: "en"})


def test_a_prefix_is_kept_as_it_is_with_the_space_at_its_end():
    assert task(**TRANSLATE).prefix == ""
    assert task(**TRANSLATE, prefix="translate English to German: ").prefix.endswith(": ")
    with pytest.raises(ValidationError, match="prefix"):
        task(**TRANSLATE, prefix="x" * 201)


def test_what_only_the_other_task_has_is_unknown():
    with pytest.raises(ValidationError, match="prefix"):
        task(type="sentence-embedding", data=FILE, prefix="query: ")


@pytest.mark.parametrize("tokens", [7, 1025])
def test_a_translation_has_a_length_that_a_decoder_can_have(tokens):
    assert task(**TRANSLATE).max_tokens == 128
    with pytest.raises(ValidationError, match="max_tokens"):
        task(**TRANSLATE, max_tokens=tokens)


def test_interactions_are_films_or_a_file():
    films = task(type="recommendation", data={"source": "movielens-100k"}).data
    own = task(type="recommendation", data=FILE).data
    assert (films.test, films.validation, own.titles) == (0.1, 0.1, None)
    with pytest.raises(ValidationError, match=r"less than 0\.5"):
        task(type="recommendation", data={**FILE, "test": 0.5})


def test_a_language_model_reads_texts_of_ones_own_or_documentation():
    own = task(type="text-generation", data={"source": "file", "path": "a.txt"})
    assert isinstance(own, Generate)
    assert isinstance(own.data, TextsFile)
    assert isinstance(task(type="text-generation", data={"source": "python-docs"}).data, PythonDocs)
    with pytest.raises(ValidationError, match="greater than or equal to 32"):
        task(type="text-generation", data=FILE, max_tokens=16)
