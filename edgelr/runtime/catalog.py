"""What the rows of a recommender's tables are: two lists next to a model, and in its package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelr.errors import DamagedArtifactError

USERS, ITEMS = "users.txt", "items.txt"


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Users and items by name and by row.

    Attributes:
        users: Row of each user.
        items: Row of each item.
        titles: Of each row of an item; its name where it has none.
    """

    users: Mapping[str, int]
    items: Mapping[str, int]
    titles: Sequence[str]


def write_catalog(
    folder: Path, users: Sequence[str], items: Sequence[str], titles: Mapping[str, str]
) -> None:
    """List users and items, a line each in the order of their rows.

    Args:
        folder: The model's.
        users: Their names; like those of items without tabs and ends of lines.
        items: Likewise.
        titles: Item -> title, where one is known; it stands behind a tab.
    """
    lines = [f"{item}\t{titles[item]}" if item in titles else item for item in items]
    for name, entries in ((USERS, users), (ITEMS, lines)):
        (folder / name).write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")


def read_catalog(folder: Path) -> Catalog:
    """Read the two lists.

    Args:
        folder: Of a model or a package.

    Raises:
        DamagedArtifactError: A list is missing, or names something twice.
    """
    (users, _), (items, titles) = _listed(folder / USERS), _listed(folder / ITEMS)
    return Catalog(users=users, items=items, titles=titles)


def _listed(path: Path) -> tuple[dict[str, int], list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(
            f"{path} cannot be read: {error}", "it lists what the rows of a table are, a line each"
        ) from error
    lines = [line.split("\t", 1) for line in text.removesuffix("\n").split("\n")]
    rows: dict[str, int] = {}
    for row, (name, *_) in enumerate(lines):
        if rows.setdefault(name, row) != row:
            raise DamagedArtifactError(f"{path}:{row + 1}: '{name}' is listed twice", "a row is of one name")
    return rows, [line[-1] for line in lines]
