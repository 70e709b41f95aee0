"""Who met which item, when, and whether they liked it; and the split of that by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgelr.artifacts import Split
from edgelr.errors import DamagedArtifactError, DataError, UnsupportedModelError
from edgelr.examples import History, spread
from edgelr.progress import Progress
from edgelr.recipe.recommend import Interactions, InteractionsFile, MovieLens
from edgelr.runtime.catalog import Catalog, read_catalog, write_catalog

if TYPE_CHECKING:
    from numpy.typing import NDArray


Facts = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Met:
    """Interactions as columns, each ``[interactions]``, in the order of their source.

    Attributes:
        users: Who.
        items: What.
        times: When, in any unit.
        liked: Whether they liked it.
        where: What an error calls them, such as ``clicks.csv:7``.
        titles: Item -> its title, where one is known.
        user_facts: User -> what is known of them, in words; empty where nothing is.
        item_facts: Item -> likewise.
    """

    users: Sequence[str]
    items: Sequence[str]
    times: NDArray[np.float64]
    liked: NDArray[np.bool_]
    where: Sequence[str]
    titles: Mapping[str, str]
    user_facts: Facts = field(default_factory=dict)
    item_facts: Facts = field(default_factory=dict)


def read_met(data: Interactions, recipe_folder: Path) -> Met:
    """Read the interactions that a recipe names.

    Args:
        data: Its section.
        recipe_folder: What its paths are relative to.

    Raises:
        DataError: They are missing, empty or malformed; file and line are named.
        MissingRequirementError: What carries or reads them is not installed.
    """
    if isinstance(data, MovieLens):
        from edgelr.load.movielens import read_movielens

        return read_movielens(data.liked)
    from edgelr.load.interactions_file import read_interactions

    assert isinstance(data, InteractionsFile)
    titles, users = (None if name is None else recipe_folder / name for name in (data.titles, data.users))
    return read_interactions(recipe_folder / data.path, titles, data.liked, users)


def list_catalog(met: Met, folder: Path) -> Catalog:
    """Give every user and item that there is a row, and list them next to a model.

    Args:
        met: The interactions.
        folder: The model's.
    """
    users, items = sorted(set(met.users), key=_natural), sorted(set(met.items), key=_natural)
    write_catalog(folder, users, items, met.titles)
    return read_catalog(folder)


def list_by_use(
    met: Met, splits: Mapping[Split, tuple[History, ...]], folder: Path
) -> dict[Split, tuple[History, ...]]:
    """Give the items that are met most the first rows; list them so, and say what was met by these rows.

    Args:
        met: The interactions.
        splits: Of them; what comes after the training part has no say.
        folder: The model's, where the catalog is listed.
    """
    catalog = read_catalog(folder)
    counts = Counter(row for each in splits["train"] for row in (*each.liked, *each.disliked))
    items, order = list(catalog.items), sorted(range(len(catalog.items)), key=lambda row: -counts[row])
    write_catalog(folder, list(catalog.users), [items[row] for row in order], met.titles)
    place = {row: new for new, row in enumerate(order)}

    def moved(each: History) -> History:
        seen, liked, disliked = (
            tuple(place[row] for row in rows) for rows in (each.seen, each.liked, each.disliked)
        )
        return replace(each, seen=tuple(sorted(seen)), liked=liked, disliked=disliked)

    return {split: tuple(moved(each) for each in splits[split]) for split in splits}


def model_catalog(folder: Path) -> Catalog:
    """The lists next to a model.

    Args:
        folder: The model's.

    Raises:
        UnsupportedModelError: A list is missing or names something twice.
    """
    try:
        return read_catalog(folder)
    except DamagedArtifactError as error:
        raise UnsupportedModelError(error.found, error.hint) from error


def split_by_time(
    met: Met, catalog: Catalog, data: Interactions, calibration: int, progress: Progress
) -> dict[Split, tuple[History, ...]]:
    """Split what each user did by time: the last of it is the test, what came before that the validation.

    Whoever did too little for a test and a validation is trained on only. What was met before is not
    recommended again, so each part knows what came before it.

    Args:
        met: The interactions, in any order.
        catalog: The model's rows.
        data: The recipe's section.
        calibration: How many users are calibrated on, at most: of those that are trained on.
        progress: Where to say what was odd.

    Raises:
        DataError: A user or an item is not in the catalog, or there is nothing to test.
    """
    rows = _rows(met, catalog)
    users = np.array([catalog.users[user] for user in met.users])
    order = np.lexsort((np.arange(len(users)), met.times, users))  # by user, then time, then as they came
    if (np.diff(met.times) < 0).any():
        progress.note(f"{len(order)} interactions are not in the order of time, and were sorted by it")
    splits: dict[Split, list[History]] = {"train": [], "validation": [], "test": []}
    starts = np.flatnonzero(np.diff(users[order], prepend=-1))
    for mine in np.split(order, starts[1:]):
        _split_user(met.users[mine[0]], rows[mine], met.liked[mine], data, splits)
    if not (splits["test"] and splits["validation"]):
        raise DataError(
            f"task.data: no user did enough for a test ({len(starts)} users, {len(order)} interactions)",
            "give more interactions, or a larger share of them to test and validation",
        )
    trained = tuple(splits["train"])
    return {
        "train": trained,
        "calibration": spread(trained, calibration),
        "validation": tuple(splits["validation"]),
        "test": tuple(splits["test"]),
    }


def _rows(met: Met, catalog: Catalog) -> NDArray[np.int64]:
    for name, entries, known in (("user", met.users, catalog.users), ("item", met.items, catalog.items)):
        for where, entry in zip(met.where, entries, strict=True):
            if entry not in known:
                raise DataError(
                    f"{where}: the {name} '{entry}' is none of the model's {len(known)} {name}s",
                    f"leave it out, or add it to the model and its {name}s.txt",
                )
    return np.array([catalog.items[item] for item in met.items], np.int64)


def _split_user(
    user: str,
    items: NDArray[np.int64],
    liked: NDArray[np.bool_],
    data: Interactions,
    splits: dict[Split, list[History]],
) -> None:
    """Add what a user did, in the order of time, to the splits."""
    count = len(items)
    test, validation = round(count * data.test), round(count * data.validation)
    ends = (count - test - validation, count - test, count)
    start = 0
    for split, end in zip(("train", "validation", "test"), ends, strict=True):
        if end > start:
            before = tuple(sorted(set(items[:start].tolist())))
            new = ~np.isin(items[start:end], before)  # what is met again cannot be recommended
            now, likes = items[start:end][new], liked[start:end][new]
            last = dict(zip(now.tolist(), likes.tolist(), strict=True))  # of what is met twice
            splits[split].append(  # type: ignore[index] # the names of splits
                History(
                    id=user,
                    group=user,
                    seen=before,
                    liked=tuple(item for item, like in last.items() if like),
                    disliked=tuple(item for item, like in last.items() if not like),
                )
            )
        start = end


def _natural(name: str) -> tuple[int, str]:
    """Numbers by their value, before names."""
    return (int(name), name) if name.isdecimal() else (2**63, name)
