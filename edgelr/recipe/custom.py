"""The section ``task`` of a recipe for a user's own torch module."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgelr.recipe.section import Count, Section


class OwnRows(Section):
    """How many rows to take of ``batches(split)``; what it gives beyond is left, fewer are a warning."""

    train: Count = Field(2000, description="rows to tune on")
    validation: Count = Field(200, description="rows to pick the best checkpoint on")
    test: Count = Field(200, description="rows to validate on; they travel in the package")


class Custom(Section):
    """A torch module of your own, arrays to arrays, with its data and how it is judged in one file."""

    type: Literal["custom"]
    module: str = Field(
        pattern=r"^.+\.py:[A-Za-z_]\w*$",
        description="FILE.py:FUNCTION next to the recipe; the function, or class, gives the module, and "
        "batches(split) in the same file gives its data. See edgelr/tasks/own_module.py",
    )
    weights: str | None = Field(
        None,
        description="a .safetensors or .pt file of the module's state, next to the recipe; left out: what "
        "the function, or train(module) in the same file, gives it",
    )
    data: OwnRows = OwnRows()  # type: ignore[call-arg]

    @property
    def file(self) -> str:
        """The file of the module."""
        return self.module.rpartition(":")[0]


def with_own_model(document: dict[str, Any]) -> dict[str, Any]:
    """A recipe whose section ``model`` is the file that the section ``task`` names, where it has none.

    Args:
        document: As it was read; not changed.
    """
    task = document.get("task")
    if "model" in document or not isinstance(task, dict) or task.get("type") != "custom":
        return document
    module = task.get("module")
    if not isinstance(module, str):
        return document
    return {**document, "model": {"path": module.rpartition(":")[0] or module}}
