"""Recommendations as a command."""

import io
from types import SimpleNamespace

import pytest

from edgelr.artifacts import Package
from edgelr.errors import DataError, UsageError
from edgelr.examples import History
from edgelr.runtime.examples import folder_examples
from edgelr.use import answer


def test_titles_with_scores_and_nothing_that_was_met(shop_package: Package, capsys) -> None:
    document = answer(shop_package.folder, [], user="u7", top=5, device="cpu-1t")
    (found,) = document["recommendations"]
    assert found["user"] == "u7"
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)
    (mine,) = (each for each in folder_examples(shop_package.folder, History) if each.id == "u7")
    met = {*mine.seen, *mine.liked, *mine.disliked}
    assert met.isdisjoint(int(item["item"]) for item in found["items"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{item['score']:7.2f}  Thing, {item['item']}" for item in found["items"]]


def test_several_users_are_told_apart(shop_package: Package, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"u3\n\nu4\n")))
    document = answer(shop_package.folder, ["u2", "-"], user="u1", top=2, device="cpu-1t")
    assert [each["user"] for each in document["recommendations"]] == ["u1", "u2", "u3", "u4"]
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("user ")] == [
        "user u1",
        "user u2",
        "user u3",
        "user u4",
    ]


def test_a_stranger_and_nobody(shop_package: Package) -> None:
    with pytest.raises(DataError, match="user 'u77' is none of the 30 that the package knows") as error:
        answer(shop_package.folder, ["u77"], device="cpu-1t")
    assert "did you mean u7" in str(error.value)
    with pytest.raises(DataError, match=r"users\.txt lists them"):
        answer(shop_package.folder, ["\u00e9\u00e9\u00e9\u00e9"], device="cpu-1t")
    with pytest.raises(UsageError, match="there is no user"):
        answer(shop_package.folder, [], device="cpu-1t")
    with pytest.raises(UsageError, match="--beam is not for"):
        answer(shop_package.folder, ["u7"], beam=2, device="cpu-1t")
