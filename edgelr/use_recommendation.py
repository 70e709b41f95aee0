"""What ``edgelr run`` does with a package that recommends: users in, titles with scores out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgelr.errors import DataError, UsageError
from edgelr.terminal import say
from edgelr.text_inputs import read_texts

if TYPE_CHECKING:
    from edgelr.artifacts import Package
    from edgelr.device.schema import Device


def recommend(
    package: Package, inputs: Sequence[str], device: Device, *, user: str | None = None, top: int = 10
) -> dict[str, Any]:
    """Print the best items for every user that they had not met.

    Args:
        package: As opened by ``open_package``.
        inputs: Users as the data calls them; ``-`` stands for the lines of standard input.
        device: The profile to run as.
        user: One more user, the first.
        top: How many items.

    Returns:
        ``{"recommendations": [{"user", "items": [{"item", "title", "score"}]}]}``, in the order of the users.

    Raises:
        UsageError: There is no user.
        DataError: A user is outside the catalog.
        DamagedArtifactError: A file of the package is unusable.
    """
    from edgelr.device.session import open_session
    from edgelr.examples import History
    from edgelr.runtime.catalog import read_catalog
    from edgelr.runtime.examples import folder_examples
    from edgelr.runtime.package import model_path, session_entries
    from edgelr.runtime.recommend import best_items

    if user is None and not inputs:
        raise UsageError("there is no user", "give one, such as --user 42, or several")
    asked = [*([] if user is None else [user]), *(read_texts(inputs) if inputs else [])]
    catalog = read_catalog(package.folder)
    rows = [_row(name, catalog.users) for name in asked]
    histories = {each.id: each for each in folder_examples(package.folder, History)}
    names = list(catalog.items)
    session = open_session(model_path(package), device, entries=session_entries(package, device.name))
    found = []
    for name, row in zip(asked, rows, strict=True):
        known = histories.get(name)
        met = () if known is None else (*known.seen, *known.liked, *known.disliked)
        items = [
            {"item": names[item], "title": catalog.titles[item], "score": float(f"{score:.4f}")}
            for item, score in best_items(package, session, row, met, len(names), top)
        ]
        found.append({"user": name, "items": items})
        _print(f"user {name}" if len(asked) > 1 else None, items)
    return {"recommendations": found}


def _row(name: str, users: Mapping[str, int]) -> int:
    if name not in users:
        near = difflib.get_close_matches(name, users, n=3)
        raise DataError(
            f"user '{name}' is none of the {len(users)} that the package knows",
            f"did you mean {' or '.join(near)}?" if near else "users.txt lists them",
        )
    return users[name]


def _print(heading: str | None, items: Sequence[Mapping[str, Any]]) -> None:
    lines = [f"{each['score']:7.2f}  {each['title']}" for each in items]
    say("\n".join([*([] if heading is None else [heading]), *lines]))
