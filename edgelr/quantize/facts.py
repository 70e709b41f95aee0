"""``quantization.json``: what each layer of a package became, why, and what that costs. Reports show it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgelr.quantize.choice import Choice
from edgelr.quantize.control import Controlled
from edgelr.quantize.error_list import LayerError
from edgelr.quantize.fastest import SchemeTimes, facts_of_times
from edgelr.quantize.left import MOST_SHARE, Left
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.package import QUANTIZATION

__all__ = ["QUANTIZATION", "facts"]


def facts(
    settings: Quantize,
    choices: Mapping[str, Mapping[str, Choice]],
    errors: Mapping[str, Sequence[LayerError]],
    left: Mapping[str, Sequence[Left]],
    weights: int,
    controlled: Controlled | None,
    times: SchemeTimes | None = None,
) -> dict[str, Any]:
    """Put together what the report shows.

    Args:
        settings: The recipe's section.
        choices: Role -> layer -> what it became.
        errors: By role, what was measured; may be empty.
        left: By role, what stayed fp32.
        weights: Bytes of all weights in fp32.
        controlled: What accuracy control found, if it was asked for.
        times: What the scheme auto chose by.

    Returns:
        Plain JSON values: layers worst first, decibels rounded, and what a reader should be warned of.
    """
    rows = [{"graph": role, **asdict(each)} for role, found in left.items() for each in found]
    unstated = sum(row["bytes"] for row in rows if not row["stated"]) / weights if weights else 0.0
    document: dict[str, Any] = {
        "scheme": settings.scheme,
        "layers": _layers(choices, errors),
        "fp32_left": rows,
        "fp32_left_share": round(unstated, 4),
        "warnings": [],
    }
    if unstated > MOST_SHARE:
        most = [f"{row['name']} ({row['reason']})" for row in rows if not row["stated"]]
        document["warnings"].append(
            f"{unstated:.1%} of the weights' bytes stayed fp32 under {settings.scheme} without anyone having "
            f"said so: {', '.join(most[:3])}"
        )
    if times is not None:
        document["auto"] = facts_of_times(times)
    if controlled is not None and settings.max_drop is not None:
        document["control"] = {
            "metric": settings.max_drop.metric,
            "max_drop": settings.max_drop.value,
            "drop": round(controlled.drop, 6),
            "drop_without": round(controlled.without, 6),
            "evaluations": controlled.evaluations,
            "kept": [name for _, name in controlled.kept],
        }
    return document


def _layers(
    choices: Mapping[str, Mapping[str, Choice]], errors: Mapping[str, Sequence[LayerError]]
) -> list[dict[str, Any]]:
    """Worst first; those that were not measured last."""
    measured = {(role, each.layer): each for role, found in errors.items() for each in found}
    rows = []
    for role, chosen in choices.items():
        for name, choice in chosen.items():
            row: dict[str, Any] = {
                "graph": role,
                "layer": name,
                "scheme": choice.scheme,
                "reason": choice.reason,
            }
            if (error := measured.get((role, name))) is not None:
                row["alone_db"] = round(error.alone_db, 1)
                row["accumulated_db"] = round(error.accumulated_db, 1)
                if error.output_change is not None:
                    row["output_change"] = float(f"{error.output_change:.2e}")
            rows.append(row)
    return sorted(rows, key=lambda row: (-row.get("output_change", -1.0), row.get("alone_db", math.inf)))
