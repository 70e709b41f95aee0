"""MovieLens 100k, read out of the installed wheel ``recbole``, which is not imported.

Harper and Konstan, The MovieLens Datasets: History and Context (2015).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgelr.errors import DataError, MissingRequirementError
from edgelr.load.interactions import Met

_FOLDER = Path("dataset_example") / "ml-100k"


def read_movielens(liked: float) -> Met:
    """The 100,000 ratings, the titles of the films, and what is known of them and of the people.

    Args:
        liked: The least rating that is a like.

    Raises:
        MissingRequirementError: The wheel is not installed.
        DataError: It does not hold them.
    """
    rows = list(_rows("ml-100k.inter", ("user_id:token", "item_id:token", "rating:float", "timestamp:float")))
    columns = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
    films = list(_rows("ml-100k.item", columns))
    people = _rows("ml-100k.user", ("user_id:token", "age:token", "gender:token", "occupation:token"))
    return Met(
        users=[user for user, *_ in rows],
        items=[item for _, item, *_ in rows],
        times=np.array([float(time) for *_, time in rows]),
        liked=np.array([float(rating) >= liked for _, _, rating, _ in rows]),
        where=[f"ml-100k.inter:{number}" for number in range(2, len(rows) + 2)],
        titles={item: f"{title} ({year})" for item, title, year, _ in films},
        user_facts={
            user: (f"age: {_decade(age)}", f"gender: {gender}", f"occupation: {occupation}")
            for user, age, gender, occupation in people
        },
        item_facts={
            item: (
                *(f"year: {_decade(each)}" for each in year.split()),
                *(f"genre: {each}" for each in genres.split()),
            )
            for item, _, year, genres in films
        },
    )


def _decade(number: str) -> str:
    return f"{number[:-1]}0s"


def _rows(name: str, columns: tuple[str, ...]) -> Iterator[list[str]]:
    """These columns, which are the first of a file."""
    spec = importlib.util.find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise MissingRequirementError(
            "MovieLens 100k comes in the wheel recbole, which is not installed",
            "pip install --no-deps recbole==1.2.1",
        )
    path = Path(spec.submodule_search_locations[0]) / _FOLDER / name
    try:
        heading, *lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "install recbole again: 1.2.1 has it") from error
    if tuple(heading.split("\t")[: len(columns)]) != columns:
        raise DataError(f"{path} has other columns: {heading}", "install recbole 1.2.1")
    for line in lines:
        yield line.split("\t")[: len(columns)]
