"""Searching with a package of sentence embeddings, as a command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.use import answer


@pytest.fixture
def package(make_package: Callable[..., Package]) -> Path:
    return make_package().folder


def test_a_query_finds_its_passage(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(package, ["copy a file"], top=2, vectors=False, device="cpu-1t")
    (found,) = document["answers"]
    assert found["input"] == "copy a file"
    best, second = found["matches"]
    assert best["id"] == "shutil.copy"
    assert best["score"] > second["score"]
    lines = capsys.readouterr().out.splitlines()
    expected = [
        f"{best['score']:.3f}  shutil.copy",
        "       Copy data and mode bits of one file to another place.",
    ]
    assert lines[:2] == expected


def test_a_long_passage_is_shortened_on_the_screen_only(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = ["copy", "remove"]
    document = answer(package, queries, top=12, vectors=False, device="cpu-1t")
    assert [len(row["matches"]) for row in document["answers"]] == [12, 12], "at most as many as there are"
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in queries] == queries, "several inputs are told apart"
    assert max(map(len, lines)) <= 110


def test_vectors_are_one_json_array_a_line(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["copy a file", "wait wait"]
    document = answer(package, texts, top=1, vectors=True, device="cpu-1t")
    vectors = [row["vector"] for row in document["vectors"]]
    assert [row["input"] for row in document["vectors"]] == texts
    # The graph's last step scales to unit length, in float32.
    assert [sum(number**2 for number in vector) for vector in vectors] == pytest.approx([1, 1], abs=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == vectors
