"""Use a recommender's package: scores of the whole catalog for a user, and what the dense model said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import DamagedArtifactError
from edgelr.runtime.answers import check_finite
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.catalog import read_catalog
from edgelr.runtime.graph import run_graph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from edgelr.artifacts import Package
    from edgelr.examples import History
    from edgelr.metrics.recommendation import Ranked

    Feeds = dict[str, NDArray[np.int64]]

SCORES, TOP_ITEMS, TOP_SCORES = "scores", "top_items", "top_scores"
_FIELDS = ("top", "liked", "disliked")


def user_feeds(row: int, seen: Sequence[int], items: int) -> Feeds:
    """What a graph may read of one user; a graph that knows users only takes ``user``.

    Args:
        row: The user's.
        seen: Rows of items that they met.
        items: Of the catalog: all are to be scored.
    """
    import numpy as np

    return {
        "user": np.array([row], np.int64),
        "seen": np.array([list(seen) or [-1]], np.int64),
        "item": np.arange(items, dtype=np.int64),
    }


def catalog_scores(
    package: Package, session: InferenceSession, row: int, seen: Sequence[int], items: int
) -> Any:  # noqa: ANN401 - an array
    """Score every item for one user, ``[items]``.

    Args:
        package: For errors.
        session: Its graph, open.
        row: The user's.
        seen: Rows of items that they met.
        items: Of the catalog.

    Raises:
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: The graph does not fit the task.
    """
    found = run_graph(session, user_feeds(row, seen, items), [SCORES])[SCORES]
    check_finite(found, package)
    return found[0]


def best_items(
    package: Package, session: InferenceSession, row: int, seen: Sequence[int], items: int, top: int
) -> list[tuple[int, float]]:
    """The best items that a user has not seen, best first, with their scores.

    A graph that ranks is asked for its ranking alone; where that is too short, as of one that only scores,
    the scores are ranked here.

    Args:
        package: For errors.
        session: Its graph, open.
        row: The user's.
        seen: Rows of items to leave out.
        items: Of the catalog.
        top: How many, at most.

    Raises:
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: The graph does not fit the task.
    """
    from edgelr.metrics.recommendation import top_items

    if TOP_ITEMS in {entry.name for entry in session.get_outputs()}:
        found = run_graph(session, user_feeds(row, seen, items), [TOP_ITEMS, TOP_SCORES])
        rows, values = _finite_top(package, found)
        if len(rows) >= min(top, items - len(set(seen))):
            return list(zip(rows[:top].tolist(), values[:top].tolist(), strict=True))
    scores = catalog_scores(package, session, row, seen, items)
    return [(item, float(scores[item])) for item in top_items(scores, seen, top).tolist()]


def _finite_top(package: Package, found: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a graph ranked for one user; places that it had no item for are cut off."""
    import numpy as np

    rows, values = found[TOP_ITEMS][0], found[TOP_SCORES][0]
    there = ~np.isneginf(values)
    check_finite(values[there], package)
    return rows[there], values[there]


def rank_users(
    package: Package,
    session: InferenceSession,
    examples: Sequence[History],
    each: Callable[[], object] | None = None,
) -> list[Ranked]:
    """What a package says of users, one a call.

    Args:
        package: Whose lists count.
        session: Its graph, open.
        examples: The users.
        each: Called after every user.

    Raises:
        DamagedArtifactError: A user is not listed.
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: The graph does not fit the task.
    """
    catalog = read_catalog(package.folder)
    users, items = catalog.users, len(catalog.items)
    found = []
    for example in examples:
        if example.id not in users:
            raise DamagedArtifactError(
                f"{package.folder}: an example is of '{example.id}', who is not listed"
            )
        _check_rows(package, example, items)
        outputs = run_graph(session, user_feeds(users[example.id], example.seen, items))
        found.append(_ranked(package, outputs, example))
        if each is not None:
            each()
    return found


def _check_rows(package: Package, example: History, items: int) -> None:
    for row in (*example.seen, *example.liked, *example.disliked):
        if not 0 <= row < items:
            raise DamagedArtifactError(
                f"{package.folder}: an example of '{example.id}' has the item {row}, and {items} are listed"
            )


def _ranked(package: Package, outputs: dict[str, NDArray[Any]], example: History) -> Ranked:
    """By the graph's own ranking where it makes one that is long enough."""
    from edgelr.metrics.recommendation import K, ranked

    check_finite(outputs[SCORES], package)
    scores = outputs[SCORES][0]
    answer = ranked(scores, example)
    if TOP_ITEMS not in outputs:
        return answer
    rows, _ = _finite_top(package, outputs)
    wanted = min(K, len(scores) - len(set(example.seen)))
    return answer if len(rows) < wanted else replace(answer, top=rows[:K])


def pack_ranked(found: Sequence[Ranked]) -> dict[str, NDArray[Any]]:
    """What ``reference.npz`` keeps of a model's answers: lists one after the other, and how long each is."""
    import numpy as np

    packed: dict[str, NDArray[Any]] = {}
    for name in _FIELDS:
        parts = [getattr(each, name) for each in found]
        kind = np.int32 if name == "top" else np.float32
        packed[f"dense_{name}"] = np.concatenate(parts).astype(kind)
        packed[f"dense_{name}_ends"] = np.cumsum([len(part) for part in parts]).astype(np.int32)
    return packed


def unpack_ranked(path: Path, examples: Sequence[History]) -> list[Ranked]:
    """The dense model's answers to the examples of a package.

    Args:
        path: Its ``reference.npz``.
        examples: Of the package.

    Raises:
        DamagedArtifactError: They do not fit the examples.
    """
    import numpy as np

    from edgelr.metrics.recommendation import Ranked

    arrays = read_arrays(path, [f"dense_{name}{end}" for name in _FIELDS for end in ("", "_ends")])
    columns = {}
    for name in _FIELDS:
        values, ends = arrays[f"dense_{name}"], arrays[f"dense_{name}_ends"]
        wanted = [len(getattr(each, name)) for each in examples] if name != "top" else None
        lengths = np.diff(ends, prepend=0)
        if len(ends) != len(examples) or (wanted is not None and lengths.tolist() != wanted):
            raise DamagedArtifactError(f"{path}: dense_{name} does not fit {len(examples)} examples")
        wide = values.astype(np.int64 if name == "top" else np.float64)
        columns[name] = np.split(wide, ends[:-1])
    return [
        Ranked(top=top, liked=liked, disliked=disliked)
        for top, liked, disliked in zip(*(columns[name] for name in _FIELDS), strict=True)
    ]
