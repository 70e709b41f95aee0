"""The section of report.md on size: what a device downloads, and what the model costs."""

from __future__ import annotations

from typing import Any

from edgelr.artifacts import BASELINES, CANDIDATE
from edgelr.report.tables import table

Row = dict[str, Any]
_ORDER = (*BASELINES, CANDIDATE)


def sizes_markdown(document: Row) -> str:
    """Render bytes of every package, the cost of the models, and bytes of files in other formats.

    Args:
        document: What ``report.json`` holds.

    Returns:
        GitHub-flavored Markdown.
    """
    sizes, others = document["sizes"], variant_sizes(document)
    shares = {row["baseline"]: row["share"] for row in document["ratios"] if row["figure"] == "bytes"}
    names = [*(name for name in _ORDER if name in sizes), *others]
    rows = [
        (name, _megabytes(sizes[name]), f"{shares[name]:.3f}" if name in shares else "–") for name in names
    ]
    costs = [
        (name, f"{cost['parameters']:,}", f"{cost['macs']:,}") for name, cost in document["model"].items()
    ]
    own = [(f"`{file}`", _megabytes(count)) for file, count in document.get("ort_bytes", {}).items()]
    parts = (
        table(("package", "MB", "candidate as a share of it"), rows),
        _together(document) if others else "",
        table(("model", "parameters", f"multiply-accumulates a {document['plan']['unit']}"), costs),
        table(("in ONNX Runtime's own format, in place of the ONNX files", "MB"), own),
    )
    return "\n\n".join(part for part in parts if part)


def variant_sizes(document: Row) -> dict[str, int]:
    """Variant of the candidate -> bytes of its package.

    Args:
        document: What ``report.json`` holds.
    """
    return {name: count for name, count in document["sizes"].items() if name not in _ORDER}


def _together(document: Row) -> str:
    others = variant_sizes(document)
    names = ", ".join(f"`{name}/`" for name in others)
    total = _megabytes(document["sizes"][CANDIDATE] + sum(others.values()))
    return (
        f"A device downloads one package: the candidate, or {names}, a package of its own in a folder of the "
        f"candidate's. Together they are {total} MB."
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f}"
