"""The command line: one thin function a command.

A command prints for people, and returns the document that ``--json`` prints; ``terminal.py`` does that, and
turns every failure into a message and an exit code. Every import beyond click is inside its command, so that
``edgelr --help`` is instant.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from edgelr import __version__
from edgelr.cli_latency import baseline, compare, trend
from edgelr.cli_options import device_option, example, json_option, out_option
from edgelr.terminal import run_command, say

SCHEMES = ("int8-dynamic", "int8-static", "a16w8", "weight-int8", "weight-int4", "fp16")
BLOCKS = ("16", "32", "64", "128", "256")
STAGES = (
    *("load", "survey", "plan", "compress", "finetune", "export", "quantize", "ort", "sessions"),
    "validate",
)

START = """\b
Start with:
  edgelr init recipe.yaml     a commented recipe
  edgelr plan recipe.yaml     check it, and see the rank of every layer
  edgelr build recipe.yaml    build, validate and report
\b
Shell completion (bash; zsh and fish likewise):
  eval "$(_EDGELR_COMPLETE=bash_source edgelr)"
"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code.

    Args:
        arguments: What follows the program's name; those of this process when None.
    """
    sys.exit(run_command(cli, sys.argv[1:] if arguments is None else arguments))


@click.group(epilog=START, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgelr")
def cli() -> None:
    """Make a trained model small and fast with low-rank factors, and prove it."""


@cli.command(epilog=example("edgelr build recipes/docs-search.yaml --device cpu-1t"))
@click.argument("recipe", type=click.Path(path_type=Path))
@out_option
@click.option("--until", type=click.Choice(STAGES), help="Stop after this stage.")
@device_option(
    "--device", "devices", multiple=True, help="Validate on this profile instead; may be repeated."
)
@json_option
def build(recipe: Path, out: Path | None, until: str | None, devices: tuple[str, ...]) -> dict[str, Any]:
    """Build a validated package from RECIPE.

    What is already built is used again; an interrupted build resumes. A package that fails a gate is left in
    rejected/, and the exit code is 9.
    """
    from edgelr import pipeline
    from edgelr.progress import Progress

    return pipeline.build(recipe, out, until=until, devices=devices, progress=Progress()).document


@cli.command(epilog=example("edgelr plan recipes/docs-search.yaml"))
@click.argument("recipe", type=click.Path(path_type=Path))
@out_option
@json_option
def plan(recipe: Path, out: Path | None) -> dict[str, Any]:
    """Check RECIPE and show the rank of every layer.

    Finds every fault of a recipe before any training.
    """
    from edgelr import pipeline
    from edgelr.progress import Progress

    return pipeline.plan(recipe, out, progress=Progress()).document


@cli.command(
    epilog=example(
        'edgelr run build/docs-search/package "how do I copy a file"',
        "cat questions.txt | edgelr run build/docs-search/package - --vectors --json",
        "cat lines.txt | edgelr run build/english-french/package - --beam 4 > translated.txt",
        "edgelr run build/spoken-commands/package *.wav --segments",
        "arecord -t raw -f S16_LE -r 16000 | edgelr run build/spoken-commands/package - --segments",
        "edgelr run build/movielens/package --user 42",
        'edgelr run build/smollm2-135m/package "Once upon a time" --max-tokens 50',
    )
)
@click.argument("package", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--top", type=click.IntRange(min=1), help="Best matches to show [3], or items for a user [10].")
@click.option("--vectors", is_flag=True, help="Of a search: print the vector of each input, not its matches.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Of a translation: also translate the lines of this file.",
)
@click.option("--beam", type=click.IntRange(1, 64), help="Of texts that are written: beams, 1 is greedy.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Likewise: most tokens of an output.")
@click.option("--out", type=click.Path(path_type=Path), help="Of arrays: an .npz file for the outputs.")
@click.option("--segments", is_flag=True, help="Of speech: a line for each part, with its times.")
@click.option("--user", help="Of recommendations: whom they are for; more users are inputs.")
@device_option("--device", default="cpu-1t", show_default=True, help="The profile to run as.")
@json_option
def run(package: Path, inputs: tuple[str, ...], **options: Any) -> dict[str, Any]:  # noqa: ANN401 - click's
    """Use PACKAGE on each INPUT: search its texts, translate, transcribe, name labels, go on, recommend.

    The input - reads lines from standard input; translations come line by line, and what a language model
    writes word by word. Inputs of a speech package are sound files, or - for wav or raw samples as they come,
    those of a package of arrays .npz files. Needs neither torch nor transformers.
    """
    from edgelr.use import answer

    return answer(package, inputs, **options)


@cli.command(epilog=example("edgelr validate build/docs-search/package --device cpu-1t"))
@click.argument("package", type=click.Path(path_type=Path))
@device_option(
    "--device", "devices", multiple=True, required=True, help="The profile to measure on; may be repeated."
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="PACKAGE",
    type=click.Path(path_type=Path),
    help="The package of a dense model, to measure next to it; may be repeated.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, max=600, min_open=True),
    default=20.0,
    show_default=True,
    help="Measuring time a device.",
)
@click.option("--metric", metavar="FILE.py:FUNCTION", help="Of arrays: code of your own that judges too.")
@json_option
def validate(
    package: Path, devices: tuple[str, ...], baselines: tuple[Path, ...], seconds: float, metric: str | None
) -> dict[str, Any]:
    """Measure PACKAGE on a device: accuracy, latency, memory, placement, gates.

    The examples and the gates are the package's own. Gates against a dense model need --baseline. Needs
    neither torch nor transformers.
    """
    from edgelr.use import check

    return check(package, devices, baselines, seconds=seconds, metric=metric)


@cli.command(
    epilog=example(
        "edgelr quantize build/docs-search/package --scheme weight-int8 --out build/small",
        "edgelr quantize model.onnx --scheme int8-dynamic --out model-int8.onnx --shape tokens=64",
        "edgelr quantize model.onnx --scheme auto --out fast.onnx --calibration inputs.npz --device cpu-4t",
    )
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--scheme", type=click.Choice((*SCHEMES, "auto")), required=True, help="How; see edgelr schema."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder, or file.")
@click.option("--block-size", type=click.Choice(BLOCKS), default="32", show_default=True, help="Of weight-*.")
@click.option(
    "--min-cosine",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.98,
    show_default=True,
    help="To fp32, or nothing is written.",
)
@click.option("--shape", "shapes", multiple=True, metavar="AXIS=SIZE", help="Of a file's test input.")
@click.option("--calibration", type=click.Path(path_type=Path, dir_okay=False), help="Inputs, an .npz file.")
@device_option("--device", default="cpu-1t", show_default=True, help="Of auto: where schemes are timed.")
@json_option
def quantize(
    path: Path,
    out: Path,
    shapes: tuple[str, ...],
    calibration: Path | None,
    device: str,
    **wanted: Any,  # noqa: ANN401 - click's
) -> dict[str, Any]:
    """Quantize PATH, an fp32 package or any ONNX file, and compare the result with it.

    Nothing is left behind when the result is too far from fp32 (exit 8).
    """
    from edgelr.quantize.command import quantize_path
    from edgelr.recipe.quantize import Quantize
    from edgelr.timing.inputs import axis_sizes

    settings = Quantize.model_validate({**wanted, "block_size": int(wanted["block_size"])})
    return quantize_path(path, settings, out, axis_sizes(shapes), calibration, device)


@cli.command(epilog=example("edgelr devices"))
@json_option
def devices() -> dict[str, Any]:
    """List the device profiles, and which of them can run here."""
    from edgelr.show import list_devices

    return list_devices()


@cli.command(epilog=example("edgelr show build/docs-search/package"))
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def show(path: Path) -> dict[str, Any]:
    """Explain PATH: a package, an artifact of the store, an --out folder or a recipe.

    Files are checked against their hashes before anything is shown.
    """
    from edgelr.show import explain

    return explain(path)


@cli.command(epilog=example("edgelr schema > recipe.schema.json"))
@json_option
def schema() -> dict[str, Any]:
    """Print the JSON Schema of a recipe, for editors."""
    import json

    from edgelr.recipe.load import json_schema

    document = json_schema()
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    return document


@cli.command(epilog=example("edgelr init my-search.yaml"))
@click.argument("file", type=click.Path(path_type=Path), default=Path("recipe.yaml"))
@json_option
def init(file: Path) -> dict[str, Any]:
    """Write a commented starter recipe to FILE (default: recipe.yaml).

    An existing file is never overwritten.
    """
    from edgelr.recipe.starter import write_starter

    write_starter(file)
    say(f"wrote {file}; next: edgelr plan {file}")
    return {"recipe": str(file)}


for _command in (compare, baseline, trend):
    cli.add_command(_command)
