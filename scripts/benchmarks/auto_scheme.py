"""Whether ``quantize --scheme auto`` chooses well: its whole model against those of single schemes.

    python scripts/benchmarks/auto_scheme.py build/.store/export/KEY --length 16 --length 128

Quantizes an fp32 package by every scheme and by auto, each on the package's own examples, and times them on
one device, interleaved, a process each. auto chooses by the times of kernels alone; only this says what the
model takes. Prints a Markdown table, writes JSON.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from edgelr.artifacts import Package
from edgelr.device.load import find_device
from edgelr.device.schema import Device
from edgelr.errors import QuantizeError
from edgelr.progress import Progress
from edgelr.quantize.auto import times_of_package
from edgelr.quantize.calibration import Data, data_of_package
from edgelr.quantize.stage import quantize
from edgelr.recipe.quantize import TIMED, Quantize, Scheme
from edgelr.report.tables import table
from edgelr.runtime.package import open_package
from edgelr.validate.latency import measure_latency

AUTO: Scheme = "auto"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scheme.

    Attributes:
        scheme: Its name.
        megabytes: Of the package.
        became: What the layers of auto are, most first.
        p50_ms: Length -> median time of a call.
    """

    scheme: str
    megabytes: float
    became: str
    p50_ms: dict[int, float]


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--length", "lengths", type=int, multiple=True, default=(16, 128), show_default=True)
@click.option("--device", "name", default="cpu-1t", show_default=True, help="A profile that can be timed.")
@click.option("--seconds", default=60.0, show_default=True, help="Measuring time, all schemes together.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
def main(package: Path, lengths: tuple[int, ...], name: str, seconds: float, out: Path) -> None:
    """Quantize PACKAGE by every scheme and by auto, and time them."""
    device, fp32 = find_device(name), open_package(package)
    folder = out / f"auto-{fp32.name}"
    shutil.rmtree(folder, ignore_errors=True)
    data = data_of_package(fp32)
    packages = {}
    for scheme in (AUTO, *(each for each in TIMED if each != "fp32" and each in device.accepts)):
        made = quantized(fp32, scheme, data, device, folder / scheme)
        if made is not None:
            packages[scheme] = made
    packages["fp32"] = fp32
    found, _ = measure_latency(packages, device, Progress(), lengths=lengths, seconds=seconds)
    times: dict[str, list[float]] = {}
    for each in found:
        times.setdefault(each.variant, []).append(each.p50_ms)
    rows = [
        Row(
            scheme=scheme,
            megabytes=made.cost.bytes / 1e6,
            became=chosen(made) if scheme == AUTO else "",
            p50_ms=dict(zip(lengths, times[scheme], strict=True)),
        )
        for scheme, made in packages.items()
    ]
    path = out / f"auto-{fp32.name}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    click.echo(shown(rows))


def quantized(fp32: Package, scheme: Scheme, data: Data, device: Device, folder: Path) -> Package | None:
    """The package of a scheme; None, and a line about it, where the model does not take it."""
    settings = Quantize(scheme=scheme, min_cosine=1e-6)  # type: ignore[call-arg]
    progress = Progress(quiet=True)
    folder.mkdir(parents=True)
    times = times_of_package(fp32, settings, data, device) if scheme == AUTO else None
    try:
        return quantize(fp32, settings, folder, progress, data, times)
    except QuantizeError as error:
        click.echo(f"{scheme}: {error.found}", err=True)
        return None


def chosen(package: Package) -> str:
    """What the layers became, by the quantized package's own list."""
    layers = json.loads((package.folder / "quantization.json").read_text(encoding="utf-8"))["layers"]
    counted = Counter(layer["scheme"] for layer in layers)
    return ", ".join(f"{count} {scheme}" for scheme, count in counted.most_common())


def shown(rows: list[Row]) -> str:
    """The rows as a Markdown table; auto's time over each, at every length."""
    auto = next(row for row in rows if row.scheme == AUTO)
    lengths = list(auto.p50_ms)
    columns = ["scheme", "layers", "MB", *(f"ms at {length}" for length in lengths)]
    return table(
        tuple(columns + [f"of auto's time at {length}" for length in lengths]),
        [
            (
                row.scheme,
                row.became,
                f"{row.megabytes:.1f}",
                *(f"{row.p50_ms[length]:.2f}" for length in lengths),
                *(f"x{row.p50_ms[length] / auto.p50_ms[length]:.2f}" for length in lengths),
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
