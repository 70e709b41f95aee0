"""Stage export: Source + Factored -> Package. No torch is needed from here on."""

from __future__ import annotations

from pathlib import Path

from edgelr.artifacts import Factored, Package, Source
from edgelr.export.label import Label
from edgelr.progress import Progress
from edgelr.recipe.schema import Export
from edgelr.recipe.tasks import OnnxGraph


def export(
    source: Source,
    factored: Factored | None,
    label: Label,
    settings: Export,
    folder: Path,
    progress: Progress,
) -> Package:
    """Write the graphs and everything a package needs, and prove that they equal the model.

    Args:
        source: The dense model and its data.
        factored: The model to export; None for the dense model itself, the baseline.
        label: What the package says about itself; its task decides the form of the model.
        settings: The recipe's section.
        folder: Where the package is written.
        progress: Where to show how far it is.

    Raises:
        ExportError: The export failed, lost a layer, or differs from the model.
    """
    if isinstance(label.task, OnnxGraph):
        from edgelr.export.onnx_graph import export_graph

        return export_graph(source, factored, label, settings, folder, progress)
    from edgelr.export.torch_module import export_task

    return export_task(source, factored, label, settings, folder, progress)
