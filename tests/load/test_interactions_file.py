"""Interactions of a user's own: CSV, Parquet, and what may be wrong with them."""

from pathlib import Path

import pytest

from edgelr.errors import DataError
from edgelr.load.interactions_file import read_interactions, read_titles

GOOD = "user,item,time,rating,shop\nann,x,3,5,a\nbob,y,1.5,2,b\n"


def write(folder: Path, text: str, name: str = "clicks.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_columns_are_read_by_their_names(tmp_path: Path) -> None:
    found = read_interactions(write(tmp_path, GOOD), None, 4.0)
    assert (found.users, found.items) == (["ann", "bob"], ["x", "y"])
    assert (found.times.tolist(), found.liked.tolist()) == ([3.0, 1.5], [True, False])
    assert found.where[1] == f"{tmp_path / 'clicks.csv'}:3"


def test_without_ratings_all_are_likes(tmp_path: Path) -> None:
    found = read_interactions(write(tmp_path, "time,user,item\n1,a,b\n"), None, 4.0)
    assert found.liked.tolist() == [True]


def test_other_columns_of_titles_and_people_are_facts(tmp_path: Path) -> None:
    titles = write(tmp_path, "item,title,genre,year\nx,One,drama| war,1994\ny,Two,,2001\n", "titles.csv")
    people = write(tmp_path, "city,user\nBerlin,ann\n,bob\n", "people.csv")
    found = read_interactions(write(tmp_path, GOOD), titles, 4.0, people)
    assert found.titles == {"x": "One", "y": "Two"}
    assert found.item_facts == {"x": ("genre: drama", "genre: war", "year: 1994"), "y": ("year: 2001",)}
    assert found.user_facts == {"ann": ("city: Berlin",), "bob": ()}
    with pytest.raises(DataError, match="the column 'user' is missing"):
        read_interactions(write(tmp_path, GOOD), titles, 4.0, titles)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,when\na,1\n", "clicks.csv:1: the column 'item' and 'time' is missing; there are user, when"),
        ("", "clicks.csv:1: the column .* is missing; there are none"),
        ("user,item,time\n", "has no interactions"),
        (GOOD + "cat,z\n", "clicks.csv:4: the heading has 5 columns, this line has not"),
        (GOOD + "cat,z,1,5,c,d\n", "clicks.csv:4: the heading has 5 columns"),
        (GOOD + "cat,z,yesterday,5,c\n", "clicks.csv:4: 'time' is 'yesterday', no number"),
        (GOOD + "cat,z,nan,5,c\n", "clicks.csv:4: 'time' is 'nan', no number"),
        (GOOD + "cat,z,1,good,c\n", "clicks.csv:4: 'rating' is 'good', no number"),
        (GOOD + ",z,1,5,c\n", "clicks.csv:4: 'user' is empty"),
        (GOOD + '"c\nd",z,1,5,c\n', "clicks.csv:5: 'user' is more than one line"),
        (GOOD + '"cat,z', "cannot be read as CSV"),
    ],
)
def test_faults_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_interactions(write(tmp_path, text), None, 4.0)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_interactions(tmp_path / "no.csv", None, 4.0)
    with pytest.raises(DataError, match=r"are \.csv or \.parquet"):
        read_interactions(write(tmp_path, GOOD, "clicks.txt"), None, 4.0)
    (tmp_path / "latin.csv").write_bytes("user,item,time\nÅsa,x,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_interactions(tmp_path / "latin.csv", None, 4.0)


def test_titles(tmp_path: Path) -> None:
    path = write(tmp_path, 'item,title\nx," The  X "\ny,Y\n', "titles.csv")
    assert read_titles(path) == {"x": "The X", "y": "Y"}


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from datetime import UTC, datetime

    from pyarrow import parquet

    path = tmp_path / "clicks.parquet"
    times = [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)]
    parquet.write_table(pyarrow.table({"user": [7, 8], "item": ["x", "y"], "time": times}), path)
    found = read_interactions(path, None, 4.0)
    assert found.users == ["7", "8"]
    assert found.times[1] - found.times[0] == 24 * 3600
    parquet.write_table(pyarrow.table({"user": [7], "item": ["x"]}), path)
    with pytest.raises(DataError, match=r"clicks.parquet: the column 'time' is missing"):
        read_interactions(path, None, 4.0)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_interactions(path, None, 4.0)
