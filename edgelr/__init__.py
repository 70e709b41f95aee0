"""edgelr: make a trained model small and fast with low-rank factors, and prove it.

The pipeline, each arrow a plain function in ``<stage>/stage.py``::

    recipe.yaml ─► Recipe          devices/*.yaml ─► Device

    train     Recipe                    ─► a model    only where the recipe brings none
    load      Recipe                    ─► Source     the dense model and its data splits
    survey    Source                    ─► Survey     every factorable site: shape, spectrum, sensitivity
    plan      Survey + budget           ─► Plan       a rank, or "dense", for each site
    compress  Source + Survey + Plan    ─► Factored   the model with low-rank layers
    finetune  Source + Factored         ─► Factored   the same type, so leaving it out needs no flag
    export    Source + Factored         ─► Package    an ONNX graph and all it needs; no torch from here on
    quantize  Package                   ─► Package    the same type again
    ort       Package                   ─► Package    with ONNX Runtime's own format too, if asked for
    sessions  Packages + Device         ─► Sessions   settings of ONNX Runtime measured as best, if asked for
    validate  Packages + Device + gates ─► Verdict    accuracy, latency, memory, placement; pass or fail
    report    all of the above          ─► report.json, report.md

Read ``pipeline.py`` first (every stage in order), then ``artifacts.py`` (what flows between them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "build", "load_factored"]

if TYPE_CHECKING:
    from edgelr.api import load_factored
    from edgelr.pipeline import build


def __getattr__(name: str) -> Any:  # noqa: ANN401 - module attribute hook
    """Import ``edgelr.build`` and ``edgelr.load_factored`` on first use: ``import edgelr`` stays instant."""
    if name == "build":
        from edgelr.pipeline import build

        return build
    if name == "load_factored":
        from edgelr.api import load_factored

        return load_factored
    raise AttributeError(f"module 'edgelr' has no attribute {name!r}")
