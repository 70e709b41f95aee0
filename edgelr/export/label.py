"""What a package says about itself."""

from __future__ import annotations

from dataclasses import dataclass

from edgelr.recipe.tasks import TaskSettings


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a package says about itself.

    Attributes:
        name: The recipe's, or that of a baseline.
        task: The recipe's section.
        macs: Multiply-accumulates per token.
        metric: The user's function that judges outputs too, see ``data_identity.own_metric``.
    """

    name: str
    task: TaskSettings
    macs: int
    metric: str | None = None
