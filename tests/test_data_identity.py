import os

import pytest

from edgelr.data_identity import (
    data_digest,
    data_libraries,
    model_libraries,
    own_metric,
    scoring_libraries,
)
from edgelr.errors import DataError
from edgelr.recipe.classify import Classify
from edgelr.recipe.custom import Custom
from edgelr.recipe.recommend import Recommend
from edgelr.recipe.tasks import OnnxGraph, Recognize, SentenceEmbedding, Translate


def embedding(**data):
    return SentenceEmbedding.model_validate({"type": "sentence-embedding", "data": data})


def speech(**data):
    return Recognize.model_validate({"type": "automatic-speech-recognition", "data": data})


def test_a_file_counts_with_its_content(tmp_path):
    path, recipe = tmp_path / "a.jsonl", tmp_path / "r.yaml"
    task = embedding(source="file", path="a.jsonl")
    path.write_text("one")
    first = data_digest(task, recipe)
    path.write_text("two")
    assert set(first) == {"data"}
    assert data_digest(task, recipe) != first


def test_a_list_of_sounds_counts_with_the_sounds(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")
    (tmp_path / "a.tsv").write_text("a.wav\thello\n")
    task, recipe = speech(source="file", path="a.tsv"), tmp_path / "r.yaml"
    first = data_digest(task, recipe)
    assert data_digest(task, recipe) == first
    os.utime(tmp_path / "a.wav", (1, 1))
    assert data_digest(task, recipe) != first


def test_a_folder_like_those_of_the_hub_counts_with_its_content(tmp_path):
    recipe = tmp_path / "r.yaml"
    assert data_digest(speech(source="dataset", id="clips"), recipe) == {}, "of the hub"
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "train.parquet").write_bytes(b"one")
    first = data_digest(speech(source="dataset", id="clips"), recipe)
    (tmp_path / "clips" / "train.parquet").write_bytes(b"two")
    assert data_digest(speech(source="dataset", id="clips"), recipe) != first


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        data_digest(embedding(source="file", path="nowhere.jsonl"), tmp_path / "r.yaml")
    with pytest.raises(DataError, match=r"nowhere\.tsv"):
        data_digest(speech(source="file", path="nowhere.tsv"), tmp_path / "r.yaml")


def test_packages_count_with_their_version(tmp_path):
    docs = embedding(source="python-docs", packages=("stdlib", "numpy", "not-there"))
    assert data_digest(docs, tmp_path / "r.yaml") == {}
    assert data_libraries(docs) == ("numpy", "not-there")
    assert data_libraries(speech(source="spoken-phrases")) == ("espeakng-loader", "numpy", "soxr")
    labeled = {"type": "text-classification", "data": {"source": "python-docs"}}
    assert data_libraries(Classify.model_validate(labeled)) == ("numpy",)
    pairs = {"type": "translation", "data": {"source": "cldr", "languages": ("en", "de")}}
    assert data_libraries(Translate.model_validate(pairs)) == ("babel",)


def test_what_decides_a_score_counts_too():
    assert "jiwer" in scoring_libraries(speech(source="spoken-phrases"))
    assert scoring_libraries(embedding(source="python-docs")) == ()


def test_inputs_and_the_judge_of_a_graph_count_with_their_content(tmp_path):
    recipe = tmp_path / "r.yaml"
    data = {"source": "arrays", "path": "made.py:inputs"}
    task = OnnxGraph.model_validate({"type": "onnx", "data": data, "metric": "judge.py:best"})
    with pytest.raises(DataError, match=r"made\.py cannot be read"):
        data_digest(task, recipe)
    (tmp_path / "made.py").write_text("one")
    with pytest.raises(DataError, match=r"judge\.py cannot be read"):
        data_digest(task, recipe)
    (tmp_path / "judge.py").write_text("one")
    before = data_digest(task, recipe)
    (tmp_path / "judge.py").write_text("two")
    assert data_digest(task, recipe) != before
    assert own_metric(task, recipe) == f"{tmp_path / 'judge.py'}:best"
    assert own_metric(embedding(source="python-docs"), recipe) is None
    assert model_libraries(task) == ("onnx", "onnxruntime")
    assert "torch" in model_libraries(embedding(source="python-docs"))


def test_titles_count_too(tmp_path):
    for name in ("clicks.csv", "titles.csv"):
        (tmp_path / name).write_text(name)
    data = {"source": "file", "path": "clicks.csv", "titles": "titles.csv"}
    task = Recommend.model_validate({"type": "recommendation", "data": data})
    first = data_digest(task, tmp_path / "r.yaml")
    (tmp_path / "titles.csv").write_text("others")
    second = data_digest(task, tmp_path / "r.yaml")
    assert (first["data"], first["titles"] != second["titles"]) == (second["data"], True)
    known = {"type": "recommendation", "data": data | {"users": "titles.csv"}}
    more = data_digest(Recommend.model_validate(known), tmp_path / "r.yaml")
    assert more == second | {"users": second["titles"]}
    (tmp_path / "titles.csv").unlink()
    with pytest.raises(DataError, match=r"task\.data\.titles: .*titles\.csv cannot be read"):
        data_digest(task, tmp_path / "r.yaml")
    films = Recommend.model_validate({"type": "recommendation", "data": {"source": "movielens-100k"}})
    assert data_libraries(films) == ("recbole",)


def test_the_file_of_a_module_counts_whatever_the_section_model_says(tmp_path):
    task = Custom.model_validate({"type": "custom", "module": "net.py:build"})
    (tmp_path / "net.py").write_text("one = 1")
    before = data_digest(task, tmp_path / "r.yaml")
    (tmp_path / "net.py").write_text("two = 2")
    assert data_digest(task, tmp_path / "r.yaml") != before
    assert "torch" in data_libraries(task)
