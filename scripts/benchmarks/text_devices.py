r"""Whether a package that writes texts writes on every device what it does on the CPU, from the same files.

    python scripts/benchmarks/text_devices.py build/cldr-en-de-npu/package \
        --fp32 build/.store/export/KEY --device qnn-htp-emulator --device web-wasm

Translates or transcribes some of the package's own examples on each device and prints a Markdown table: the
device's share of the work and the parts it gets, how many texts are those of the same files on one CPU core,
how many are those of the fp32 package there, seconds a text, and of a chip of Qualcomm's the bytes of what is
compiled.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.examples import spread
from edgelr.kinds.kind import Judge, kind_of
from edgelr.report.tables import table
from edgelr.runners.ahead import compile_ahead
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.package import open_package
from edgelr.validate.across import REFERENCE
from edgelr.validate.placement import RECORD, placement_rows, recorded_graphs


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--fp32", type=click.Path(path_type=Path), required=True, help="The same model in fp32.")
@click.option("--device", "names", multiple=True, required=True, help="A device profile; may be repeated.")
@click.option("--texts", default=100, show_default=True, help="Examples to write, evenly over all.")
def main(package: Path, fp32: Path, names: tuple[str, ...], texts: int) -> None:
    """Write the texts of examples of PACKAGE on devices."""
    devices, opened = load_devices(), open_package(package)
    kind = kind_of(opened)
    examples = spread(folder_examples(opened.folder, kind.EXAMPLE), texts)
    judge = kind.judge(examples, opened.folder)
    right, exact = (
        judge.answer(each, open_graphs(each, devices[REFERENCE], each.graphs), None)
        for each in (opened, open_package(fp32))
    )
    rows = [_row(opened, devices[name], judge, right, exact) for name in names]
    columns = ("device", "evidence", "share of work", "placed", "texts of the CPU", "texts of fp32")
    click.echo(table((*columns, "s a text", "compiled, bytes"), rows))


def _row(
    package: Package, device: Device, judge: Judge, right: list[str], exact: list[str]
) -> tuple[object, ...]:
    sessions = open_graphs(package, device, package.graphs, RECORD)
    graphs = recorded_graphs(package, device, sessions)
    placed = placement_rows(graphs, variant="candidate", device=device)
    own = next((row for row in placed if row.provider == device.provider), None)
    begin = time.perf_counter()
    found: list[str] = judge.answer(package, sessions, None)
    seconds = (time.perf_counter() - begin) / len(found)
    for one, two in zip(found, right, strict=True):
        if one != two:
            click.echo(f"{device.name}: {one!r}, on the CPU {two!r}", err=True)
    return (
        f"`{device.name}`",
        device.evidence,
        "–" if own is None or own.macs_share is None else f"{own.macs_share:.4f}",
        "–" if own is None else f"{own.nodes} nodes, {own.partitions or '–'} parts",
        *(
            f"{sum(a == b for a, b in zip(found, theirs, strict=True))} of {len(found)}"
            for theirs in (right, exact)
        ),
        f"{seconds:.2f}",
        _compiled(package, device),
    )


def _compiled(package: Package, device: Device) -> str:
    with tempfile.TemporaryDirectory() as folder:
        files = compile_ahead(package, [device], Path(folder))
        return f"{sum(file.stat().st_size for file in files):,}" if files else "–"


if __name__ == "__main__":
    main()
