r"""Whether a package that translates says on every device what it says on the CPU, from the very same files.

    python scripts/benchmarks/translation_devices.py build/cldr-en-de-npu/package \
        --fp32 build/.store/export/KEY --device qnn-htp-emulator --device web-wasm

Translates some of the package's own examples on each device and prints a Markdown table: the device's share
of the work and the parts it gets, how many texts are those of the same files on one CPU core, how many are
those of the fp32 package there, seconds a text, and of a chip of Qualcomm's the bytes of what is compiled.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.examples import Translation, spread
from edgelr.report.tables import table
from edgelr.runners.ahead import compile_ahead
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path, open_package
from edgelr.runtime.shapes import fixed_sizes
from edgelr.runtime.translate import open_translator, translate, translator_of
from edgelr.validate.across import REFERENCE
from edgelr.validate.placement import RECORD, placement_rows, recorded_graphs


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--fp32", type=click.Path(path_type=Path), required=True, help="The same model in fp32.")
@click.option("--device", "names", multiple=True, required=True, help="A device profile; may be repeated.")
@click.option("--texts", default=100, show_default=True, help="Examples to translate, evenly over all.")
def main(package: Path, fp32: Path, names: tuple[str, ...], texts: int) -> None:
    """Translate examples of PACKAGE on devices."""
    devices, opened = load_devices(), open_package(package)
    sources = [each.source for each in spread(folder_examples(opened.folder, Translation), texts)]
    right, exact = (
        list(translate(open_translator(each, devices[REFERENCE]), sources, beams=1))
        for each in (opened, open_package(fp32))
    )
    rows = [_row(opened, devices[name], sources, right, exact) for name in names]
    columns = ("device", "evidence", "share of work", "partitions", "texts of the CPU", "texts of fp32")
    click.echo(table((*columns, "s a text", "compiled, bytes"), rows))


def _row(
    package: Package, device: Device, sources: list[str], right: list[str], exact: list[str]
) -> tuple[object, ...]:
    sizes = fixed_sizes(package)
    sessions = {
        role: open_session(model_path(package, role), device, entries=RECORD, sizes=sizes)
        for role in package.graphs
    }
    graphs = recorded_graphs(package, device, sessions)
    placed = placement_rows(graphs, variant="candidate", device=device)
    own = next((row for row in placed if row.provider == device.provider), None)
    begin = time.perf_counter()
    found = list(translate(translator_of(package, sessions), sources, beams=1))
    seconds = (time.perf_counter() - begin) / len(sources)
    for source, one, two in zip(sources, found, right, strict=True):
        if one != two:
            click.echo(f"{device.name}: {source!r}: {one!r}, on the CPU {two!r}", err=True)
    return (
        f"`{device.name}`",
        device.evidence,
        "–" if own is None or own.macs_share is None else f"{own.macs_share:.4f}",
        "–" if own is None else own.partitions or "–",
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
