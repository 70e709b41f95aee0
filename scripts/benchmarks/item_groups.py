"""Whether items that are met little may take less rank: one rank for a table against one for each part of it.

    python scripts/benchmarks/item_groups.py                     # MovieLens 100k; trains its dense model
    python scripts/benchmarks/item_groups.py --items 5000000     # synthetic, Zipf's counts; 2 GB of memory

Both sides have the same number of numbers, factors included. Ranks of the parts are those of the least
weighted error under that budget, a row at a time; rows weigh as often as they were met before the test, and
directions as users have them. Of MovieLens only the items are factored, in fp32; its metrics are those of
``edgelr validate``. Of the synthetic table the error is that of its spectrum.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from recommender import DIM, make_table

from edgelr.lowrank.table import factor_table, table_energies

SHARES = (0.5, 0.9)
Rows = NDArray[np.float64]


def parts(counts: Rows, shares: tuple[float, ...]) -> list[NDArray[np.int64]]:
    """Rows by how often they are met, cut where these shares of all are reached."""
    order = np.argsort(-counts, kind="stable")
    reached = np.cumsum(counts[order]) / counts.sum()
    return np.split(order, [int((reached < share).sum()) + 1 for share in shares])


def ranks(spectra: list[Rows], rows: list[int], dim: int, budget: int) -> list[int]:
    """The next rank goes to the part where it keeps most for what it costs, while there is room."""
    found = [1] * len(rows)
    costs = [count + dim for count in rows]
    used = sum(costs)
    while True:
        fitting = [
            at for at, cost in enumerate(costs) if used + cost <= budget and found[at] < min(dim, rows[at])
        ]
        if not fitting:
            return found
        best = max(fitting, key=lambda at: spectra[at][found[at]] / costs[at])
        found[best] += 1
        used += costs[best]


def movielens(uniform: tuple[int, ...]) -> list[dict[str, Any]]:
    """Rows of the table in ``recipes/README.md``."""
    import torch

    from edgelr.load.interactions import model_catalog, read_met, split_by_time
    from edgelr.load.stage import train
    from edgelr.metrics.recommendation import recommendation_scores
    from edgelr.progress import Progress
    from edgelr.recipe.load import load_recipe
    from edgelr.tasks.recommendation import rank
    from edgelr.tasks.recommendation_model import load_model
    from edgelr.tasks.task import Reading

    path, quiet = Path(__file__).parents[2] / "recipes" / "movielens.yaml", Progress(quiet=True)
    recipe = load_recipe(path)
    with tempfile.TemporaryDirectory(prefix="edgelr-") as name:
        folder = Path(name) / "model"
        train(recipe, path.parent, Path(), folder, quiet)
        data: Any = recipe.task.data
        splits = split_by_time(read_met(data, path.parent), model_catalog(folder), data, 1, quiet)
        model: Any = load_model(folder)
        reading = Reading(folder=folder, max_tokens=0)
        dense = rank(model, reading, splits["test"])
        table = model.items.weight.detach().numpy().copy()
        users = model.users.weight.detach().numpy().astype(np.float64)
        counts = np.zeros(len(table))
        for each in splits["train"]:
            counts[[*each.liked, *each.disliked]] += 1
        found = []
        for kind, number, near in _approximations(table, counts, users.T @ users, uniform):
            with torch.no_grad():
                model.items.weight.copy_(torch.from_numpy(near.astype(np.float32)))
            scores = recommendation_scores(splits["test"], rank(model, reading, splits["test"]), dense)
            rest = (table - near) @ users.T
            all_ = table @ users.T
            error = float(counts @ np.square(rest).sum(1) / (counts @ np.square(all_).sum(1)))
            metrics = {name: round(each.value, 4) for name, each in scores.items()}
            found.append({"ranks": kind, "numbers": number, "weighted_error": error, **metrics})
        return found


def _approximations(table: Any, counts: Rows, curvature: Rows, uniform: tuple[int, ...]) -> Any:  # noqa: ANN401
    """(ranks, numbers stored, the table that they give)."""
    cut = parts(counts, SHARES)
    rows, dim = [len(part) for part in cut], table.shape[1]
    spectra = [table_energies(table[part], counts[part], curvature) for part in cut]
    yield "dense", table.size, table
    for rank in uniform:
        for pieces, chosen in (
            ([np.arange(len(table))], [rank]),
            (cut, ranks(spectra, rows, dim, rank * (len(table) + dim))),
        ):
            near = np.empty_like(table)
            for piece, own in zip(pieces, chosen, strict=True):
                factors = factor_table(table[piece], counts[piece], own, curvature)
                near[piece] = (factors.up @ factors.down).T
            numbers = sum((len(piece) + dim) * own for piece, own in zip(pieces, chosen, strict=True))
            yield chosen, numbers, near


def synthetic(items: int, uniform: tuple[int, ...]) -> list[dict[str, Any]]:
    """What a table of that size loses at a rank, and in parts with as many numbers."""
    table, counts = make_table(items), 1e6 / np.arange(1, items + 1)
    cut = parts(counts, SHARES)
    rows = [len(part) for part in cut]
    # Items stand in the order of their counts: a part is a slice, and no copy of a table of gigabytes.
    ends = np.cumsum(rows)
    spectra = [
        table_energies(table[end - count : end], counts[end - count : end])
        for end, count in zip(ends, rows, strict=True)
    ]
    whole = table_energies(table, counts)
    found = []
    for rank in uniform:
        chosen = ranks(spectra, rows, DIM, rank * (items + DIM))
        left = sum(float(spectrum[own:].sum()) for spectrum, own in zip(spectra, chosen, strict=True))
        found.append(
            {
                "rows": rows,
                "rank": rank,
                "weighted_error": float(whole[rank:].sum() / whole.sum()),
                "ranks": chosen,
                "weighted_error_in_parts": left / float(whole.sum()),
            }
        )
    return found


@click.command()
@click.option("--items", type=int, help="Of a synthetic catalog; MovieLens without it.")
@click.option("--rank", "uniform", multiple=True, default=(8, 12, 16, 24), show_default=True)
def main(items: int | None, uniform: tuple[int, ...]) -> None:
    """Measure, and print a JSON document a line."""
    for row in movielens(uniform) if items is None else synthetic(items, uniform):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
