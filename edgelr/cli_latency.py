"""The commands of the latency check: compare, baseline, trend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgelr.cli_options import device_option, example, json_option
from edgelr.terminal import columns, say

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog=example(
        "edgelr compare main/package build/docs-search/package --device cpu-1t --tolerance 5%",
        "edgelr compare origin/main:recipes/docs-search.yaml build/docs-search/package",
        "edgelr compare old.onnx new.onnx --shape batch=1 --shape tokens=128 --limit bytes=2%",
    )
)
@click.argument("base")
@click.argument("candidate")
@device_option("--device", default="cpu-1t", show_default=True, help="The profile to run on.")
@click.option("--recipe", type=FILE, help="Take the section 'compare' of this recipe.")
@click.option("--tolerance", metavar="SHARE", help="How much slower is accepted [5%].")
@click.option("--budget", metavar="TIME", help="For the answer; half as much again to confirm one [60s].")
@click.option("--tokens", type=click.IntRange(min=1), help="Length of the text, of packages [128].")
@click.option("--audio-s", type=click.IntRange(min=1), help="Of the sound, of packages of speech [5].")
@click.option("--shape", "shapes", multiple=True, metavar="AXIS=SIZE", help="Of ONNX files; repeatable.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=SHARE",
    help="Also fail when p90, first_call, load, memory, bytes, a graph or a metric gets worse; repeatable.",
)
@click.option("--inconclusive-ok", is_flag=True, help="Exit 0 when the answer is not sure.")
@click.option("--junit", type=FILE, help="Also write JUnit XML.")
@click.option("--svg", type=FILE, help="Also draw both distributions.")
@click.option("--history", type=FILE, help="Append a line of JSON, see edgelr trend.")
@json_option
def compare(base: str, candidate: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - click's
    """Check that CANDIDATE is not slower than BASE.

    Each is a package, an ONNX file, or REVISION:RECIPE, a recipe as it is at a git revision, which is built.
    Both run on this machine, in turn, in fresh processes. Exit 0: not slower than the tolerance; 10: slower,
    seen twice; 11: this machine was too noisy to tell in this time.
    """
    from edgelr.compare.command import Files, compare_sides
    from edgelr.timing.inputs import axis_sizes

    files = Files(**{name: options.pop(name) for name in ("junit", "svg", "history")})
    return compare_sides(base, candidate, sizes=axis_sizes(options.pop("shapes")), files=files, **options)


@click.group(
    epilog=example(
        "edgelr baseline save build/docs-search/package baselines/docs-search.tar.gz --json",
        "edgelr baseline load baselines/docs-search.tar.gz build/base",
    )
)
def baseline() -> None:
    """Keep a package to compare with, as one file: for a cache, never a time."""


@baseline.command(
    epilog=example("edgelr baseline save build/docs-search/package baselines/docs-search.tar.gz")
)
@click.argument("package", type=click.Path(path_type=Path))
@click.argument("file", type=FILE)
@json_option
def save(package: Path, file: Path) -> dict[str, Any]:
    """Check PACKAGE and write it into FILE; the same package gives the same bytes."""
    from edgelr.compare.baseline import save_baseline

    size = save_baseline(package, file)
    say(f"saved {package} in {file}: {size:,} bytes")
    return {"file": str(file), "bytes": size}


@baseline.command(
    epilog=example(
        "edgelr baseline load baselines/docs-search.tar.gz build/base",
        "edgelr compare build/base build/docs-search/package",
    )
)
@click.argument("file", type=FILE)
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def load(file: Path, folder: Path) -> dict[str, Any]:
    """Unpack FILE into FOLDER, a package again, and check it."""
    from edgelr.compare.baseline import load_baseline

    load_baseline(file, folder)
    say(f"loaded {file} into {folder}")
    return {"package": str(folder)}


@click.command(epilog=example("edgelr trend latency.jsonl --svg latency.svg"))
@click.argument("history", type=FILE)
@click.option("--svg", type=FILE, help="Also draw them.")
@json_option
def trend(history: Path, svg: Path | None) -> dict[str, Any]:
    """Show what the comparisons in HISTORY found, as appended by edgelr compare --history."""
    from edgelr.compare.trend import read_history, table, trend_picture
    from edgelr.writing import atomic_write_text

    found = read_history(history)
    say(columns(table(found)))
    if svg is not None:
        atomic_write_text(svg, trend_picture(found))
        say(f"drawn in {svg}")
    return {"comparisons": [vars(each) for each in found]}
