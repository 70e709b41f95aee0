r"""What a package is on every device that this host can simulate or analyze: who runs it, and how right.

    python scripts/benchmarks/devices.py build/docs-search/package/npu --fp32 build/.store/export/KEY \
        --device qnn-htp-emulator --device arm64-cortex-a76

Of each device: its share of the work and the parts it gets, the largest 1 - cosine to one CPU core from the
same files over made-up inputs and its mean over some queries, the mean cosine to the fp32 package on the CPU
over these, and for each chip of Qualcomm's the bytes of what is compiled for it. Prints a Markdown table, a
line to stderr as each device is done; takes minutes. Every row carries its evidence: of what is analyzed
only, nothing was run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import Package
from edgelr.device.host import availability
from edgelr.device.load import get_device, load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session, session_options
from edgelr.errors import EdgelrError
from edgelr.examples import Example
from edgelr.placement.placed import Placed
from edgelr.report.tables import table
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path, open_package, precisions
from edgelr.runtime.shapes import fixed_sizes
from edgelr.runtime.text import embed, open_text_package
from edgelr.validate.across import REFERENCE, compare_across
from edgelr.validate.placement import RECORD, analyzed_graphs, placement_rows, recorded_graphs

LENGTHS = (16, 64, 128)


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--fp32", type=click.Path(path_type=Path), required=True, help="The same model in fp32.")
@click.option("--queries", default=8, show_default=True, help="Texts to compare with fp32 on.")
@click.option("--device", "names", multiple=True, help="Profile; every one that takes it when left out.")
def main(package: Path, fp32: Path, queries: int, names: tuple[str, ...]) -> None:
    """Measure PACKAGE, of sentence embeddings, on every device that takes it."""
    opened, exact = open_package(package), open_package(fp32)
    texts = [each.query or each.passage for each in folder_examples(opened.folder, Example)][:queries]
    own, right = (
        embed(*open_text_package(each, load_devices()[REFERENCE]), texts) for each in (opened, exact)
    )
    profiles, rows = load_devices(), []
    for device in [get_device(name, profiles) for name in names or profiles]:
        if set(precisions(opened)) <= set(device.accepts):
            rows.append((f"`{device.name}`", *_row(opened, device, texts, own, right)))
            click.echo(" ".join(map(str, rows[-1])), err=True)
    columns = ("device", "evidence", "nodes", "share of work", "partitions", "1 - cosine to the CPU")
    click.echo(table((*columns, "its mean over queries", "cosine to fp32", "compiled, bytes"), rows))


def _row(
    package: Package,
    device: Device,
    texts: list[str],
    own: NDArray[np.float32],
    right: NDArray[np.float32],
) -> tuple[object, ...]:
    if device.evidence == "static":
        return (device.evidence, *_placed(analyzed_graphs(package, device), device), "–", "–", "–", "–")
    available, reason = availability(device)
    if not available:
        return (device.evidence, "–", "–", "–", reason, "–", "–", "–")
    try:
        sizes = fixed_sizes(package)
        session = open_session(model_path(package), device, entries=RECORD, sizes=sizes)
        placed = _placed(recorded_graphs(package, device, {"model": session}), device)
        note = compare_across(package, device, LENGTHS) or "–"
        found = embed(*open_text_package(package, device), texts)
    except EdgelrError as error:
        return (device.evidence, "–", "–", "–", str(error.found), "–", "–", "–")
    apart = note.partition("at most ")[2].partition(",")[0] or "–"
    mean = f"{1 - _cosine(found, own):.1e}"
    return (device.evidence, *placed, apart, mean, f"{_cosine(found, right):.4f}", _compiled(package, device))


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean over rows."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).mean())


def _placed(graphs: Sequence[Sequence[Placed]], device: Device) -> tuple[object, ...]:
    rows = placement_rows(graphs, variant="candidate", device=device)
    own = next((row for row in rows if row.provider == device.provider), None)
    if own is None:
        return ("–", "–", "–")
    total = sum(row.nodes for row in rows)
    share = "–" if own.macs_share is None else f"{own.macs_share:.4f}"
    return (f"{own.nodes} of {total}", share, own.partitions or "–")


def _compiled(package: Package, device: Device) -> str:
    if device.runner != "qnn":
        return "–"
    from edgelr.runners.qnn import write_context

    with tempfile.TemporaryDirectory() as folder:
        size = fixed_sizes(package)[-1]
        target = Path(folder) / "compiled.onnx"
        return (
            f"{write_context(model_path(package), device, partial(session_options, device), size, target):,}"
        )


if __name__ == "__main__":
    main()
