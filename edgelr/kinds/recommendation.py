"""Packages that recommend: scores of a catalog, judged by what users liked afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.examples import AnyExample, History, spread
from edgelr.kinds.cosines import COMPARED, cosines
from edgelr.kinds.kind import Judge
from edgelr.kinds.outputs import REFERENCE
from edgelr.runtime.answers import check_finite
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.catalog import read_catalog
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path, session_entries
from edgelr.runtime.recommend import SCORES, catalog_scores, rank_users, unpack_ranked, user_feeds

if TYPE_CHECKING:
    from edgelr.device.schema import Device
    from edgelr.kinds.kind import Feeds, Sessions
    from edgelr.metrics.recommendation import Ranked
    from edgelr.progress import Progress

EXAMPLE = History
OPTIONS = ("user", "top")
UNIT = "users"
RUNS = 1

_CALLS = 64  # that quantization is calibrated on


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Recommend to every user; see ``use_recommendation.py``."""
    from edgelr.use_recommendation import recommend

    return recommend(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """What users liked, one user a call."""
    from edgelr.metrics.recommendation import recommendation_scores

    found = _histories(examples)
    if len(found) != len(examples):
        raise DamagedArtifactError(f"{folder}: an example is no history of a user")
    return Judge(
        answer=lambda package, sessions, each: rank_users(package, sessions["model"], found, each),
        score=lambda own, dense: recommendation_scores(found, own, dense),
    )


def dense_answers(package: Package, count: int) -> list[Ranked]:
    """What the dense model says of the users."""
    examples = folder_examples(package.folder, History)
    if len(examples) != count:
        raise DamagedArtifactError(f"{package.folder}: {len(examples)} examples, {count} were wanted")
    return unpack_ranked(package.folder / REFERENCE, examples)


def parity(package: Package, sessions: Sessions) -> float:
    """Largest difference from torch's scores on the stored cases."""
    import numpy as np

    path = package.folder / REFERENCE
    arrays = read_arrays(path)
    names = [entry.name for entry in package.graphs["model"].inputs]
    largest = 0.0
    for key in sorted(name for name in arrays if name.startswith(f"{SCORES}.")):
        case = key.removeprefix(f"{SCORES}.")
        if any(f"{name}.{case}" not in arrays for name in names):
            raise DamagedArtifactError(f"{path}: parity case {case} is incomplete")
        got = run_graph(sessions["model"], {name: arrays[f"{name}.{case}"] for name in names})[SCORES]
        check_finite(got, package)
        if got.shape != arrays[key].shape:
            raise DamagedArtifactError(f"{path}: {key} has shape {list(arrays[key].shape)}")
        largest = max(largest, float(np.abs(got - arrays[key]).max()))
    return largest


def notes() -> tuple[str, ...]:
    """How the metrics are counted that others count in other ways too."""
    return (
        "recall@20 and ndcg@20: of the whole catalog but what the user had seen, gains of 0 and 1; "
        "auc: of each user with likes and dislikes, who weighs as much as they met",
    )


def feeds(package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
    """Some users with what they had met."""
    del folder
    catalog = read_catalog(package.folder)
    names = {entry.name for entry in package.graphs["model"].inputs}
    calls: list[Feeds] = []
    for each in spread(_histories(examples), _CALLS):
        met = (*each.seen, *each.liked, *each.disliked)
        given = user_feeds(catalog.users[each.id], met, len(catalog.items))
        calls.append({name: array for name, array in given.items() if name in names})
    return {"model": calls}


def compare(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """Scores of the catalog for some of the package's users; see ``Kind.compare``."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session

    device = load_devices()["cpu-1t"]
    fp32 = model_path(package)
    catalog = read_catalog(package.folder)
    few = spread(folder_examples(package.folder, History), COMPARED)
    sessions = [open_session(path, device) for path in (fp32, folder / fp32.name)]
    rows: list[list[Any]] = [[], []]
    with progress.bar("comparing with fp32", len(few)) as advance:
        for each in few:
            for found, session in zip(rows, sessions, strict=True):
                row = catalog.users[each.id]
                found.append(catalog_scores(package, session, row, each.seen, len(catalog.items)))
            advance()
    dense, small = (np.stack(found) for found in rows)
    return {"model": float(cosines(dense, small, fp32.name).mean())}


def timed(package: Package, device: Device) -> dict[str, Any]:
    """One run of the graph: the scores of the whole catalog."""
    return {"model": str(model_path(package)), "entries": session_entries(package, device.name)}


def timed_inputs(package: Package, length: int) -> dict[str, Any]:
    """The first ``length`` users of the examples, each with what they had met, cut to the shortest."""
    examples = folder_examples(package.folder, History)
    catalog = read_catalog(package.folder)
    chosen = [examples[number % len(examples)] for number in range(length)]
    met = max(1, min(len(each.seen) for each in chosen))
    given = {
        "user": [catalog.users[each.id] for each in chosen],
        "seen": [[*each.seen, -1][:met] for each in chosen],
        "item": list(range(len(catalog.items))),
    }
    names = {entry.name for entry in package.graphs["model"].inputs}
    return {name: values for name, values in given.items() if name in names}


def _histories(examples: Sequence[AnyExample]) -> list[History]:
    return [each for each in examples if isinstance(each, History)]
