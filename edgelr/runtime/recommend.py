"""Use a recommender's package: scores of the whole catalog for a user, and what the dense model said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

SCORES = "scores"
_FIELDS = ("top", "liked", "disliked")


def user_feeds(row: int, seen: Sequence[int]) -> Feeds:
    """What a graph reads of one user; a graph that knows users only takes ``user``.

    Args:
        row: The user's.
        seen: Rows of items that they met.
    """
    import numpy as np

    return {"user": np.array([row], np.int64), "seen": np.array([list(seen) or [-1]], np.int64)}


def catalog_scores(package: Package, session: InferenceSession, row: int, seen: Sequence[int]) -> Any:  # noqa: ANN401 - an array
    """Score every item for one user, ``[items]``.

    Args:
        package: For errors.
        session: Its graph, open.
        row: The user's.
        seen: Rows of items that they met.

    Raises:
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: The graph does not fit the task.
    """
    found = run_graph(session, user_feeds(row, seen))[SCORES]
    check_finite(found, package)
    return found[0]


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
    from edgelr.metrics.recommendation import ranked

    users = read_catalog(package.folder).users
    found = []
    for example in examples:
        if example.id not in users:
            raise DamagedArtifactError(
                f"{package.folder}: an example is of '{example.id}', who is not listed"
            )
        found.append(ranked(catalog_scores(package, session, users[example.id], example.seen), example))
        if each is not None:
            each()
    return found


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
