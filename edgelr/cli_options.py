"""What several commands of the command line have in common: their options, and how an example is shown."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
from click.shell_completion import CompletionItem

json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    help="Print one JSON document, as the last line.",
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the results [build/<name>].",
    metavar="DIR",
)


def example(*lines: str) -> str:
    """An epilog that click does not wrap."""
    return "\n  ".join(("\b\nExample:", *lines))


def complete_device(context: click.Context, parameter: click.Parameter, start: str) -> list[CompletionItem]:
    """Names of device profiles, for the shell."""
    from edgelr.device.load import load_devices

    profiles = load_devices().values()
    return [CompletionItem(each.name, help=each.title) for each in profiles if each.name.startswith(start)]


device_option = partial(click.option, metavar="NAME", shell_complete=complete_device)
