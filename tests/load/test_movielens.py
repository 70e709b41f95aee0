"""MovieLens 100k out of the wheel that carries it, where that is installed."""

import sys
from pathlib import Path

import pytest

from edgelr.errors import DataError, MissingRequirementError
from edgelr.load.movielens import read_movielens

HEADING = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name with two ratings."""
    folder = tmp_path / "recbole" / "dataset_example" / "ml-100k"
    folder.mkdir(parents=True)
    (tmp_path / "recbole" / "__init__.py").write_text("raise ImportError('it is never imported')")
    (folder / "ml-100k.inter").write_text(HEADING + "7\t2\t4\t10\n8\t1\t3\t9\n")
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Comedy\n2\tunknown\t\t\n"
    )
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "7\t24\tM\ttechnician\t85711\n8\t7\tF\tother\t94043\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return folder


def test_ratings_and_titles(wheel: Path) -> None:
    found = read_movielens(4.0)
    assert (list(found.users), list(found.items)) == (["7", "8"], ["2", "1"])
    assert (found.times.tolist(), found.liked.tolist()) == ([10.0, 9.0], [True, False])
    assert found.titles == {"1": "Toy Story (1995)", "2": "unknown ()"}


def test_what_is_known_of_people_and_films(wheel: Path) -> None:
    found = read_movielens(4.0)
    assert found.user_facts == {
        "7": ("age: 20s", "gender: M", "occupation: technician"),
        "8": ("age: 0s", "gender: F", "occupation: other"),
    }
    assert found.item_facts == {"1": ("year: 1990s", "genre: Animation", "genre: Comedy"), "2": ()}


def test_other_columns(wheel: Path) -> None:
    (wheel / "ml-100k.inter").write_text("user\titem\n1\t2\n")
    with pytest.raises(DataError, match="has other columns: user"):
        read_movielens(4.0)
    (wheel / "ml-100k.inter").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_movielens(4.0)


def test_the_wheel_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingRequirementError, match="pip install --no-deps recbole"):
        read_movielens(4.0)
