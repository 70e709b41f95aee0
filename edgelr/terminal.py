"""How a command ends: its result as one JSON line, its failure as a message and an exit code.

Exit codes are those of ``errors.py``; 0 is done, 1 is a bug, 141 a reader that went away (``| head``), as the
shell itself reports it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any

import click

from edgelr.errors import EdgelrError, InterruptedBuildError, MissingRequirementError, StorageError

BUILD_EXTRA = frozenset(
    {"torch", "transformers", "accelerate", "onnxscript", "optimum", "safetensors", "requests"}
)
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
PROGRAM = "edgelr"
COMPLETION = "_EDGELR_COMPLETE"
BROKEN_PIPE = 141
_NUMBER = re.compile(r"[-+±]?\d[\d.,]*([eE][-+]?\d+)?( ?[%×A-Za-zµ/]{1,9})?")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
RESUME = "what is finished is kept; run the same command again to resume"


def run_command(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command of the command line to its end.

    The command prints for people and returns its document. With ``--json`` all that it prints goes to stderr,
    and its document, or ``{"error": {"exit", "message"}}``, is the last line of stdout.

    Args:
        command: The click command or group.
        arguments: What follows the program's name.

    Returns:
        The exit code.
    """
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in options
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        code, document = _outcome(command, list(arguments))
    try:
        if as_json and document is not None:
            click.echo(json.dumps(finite(document), ensure_ascii=False, allow_nan=False))
        sys.stdout.flush()
    except BrokenPipeError:
        return leave_broken_pipe()
    return code


def failure(error: EdgelrError) -> dict[str, Any]:
    """Say on stderr what went wrong, and return it as a document.

    Args:
        error: The failure.

    Returns:
        ``{"error": {"exit", "message"}}``; a command may add what it found before and return it: the exit
        code is the error's.
    """
    say(f"edgelr: {error}", err=True)
    return {"error": {"exit": error.exit_code, "message": str(error)}}


def say(text: str, *, err: bool = False) -> None:
    """Print a line or more for people.

    What would steer a terminal is taken out: names and passages may come from a stranger's package.

    Args:
        text: May hold line breaks.
        err: Print to stderr rather than stdout.
    """
    lines = text.expandtabs(4).split("\n")
    click.echo(
        "\n".join("".join(sign if sign.isprintable() else "\ufffd" for sign in line) for line in lines),
        err=err,
    )


def say_line(text: str) -> None:
    """Print one line of text as it is, for people and for the next program alike, at once.

    Unlike in ``say``, spaces and joiners that are not printable stay: they are part of many languages. Line
    breaks become spaces, other control characters and what the terminal's encoding lacks are replaced.

    Args:
        text: Any text.

    Raises:
        BrokenPipeError: The reader went away.
    """
    line = _CONTROL.sub(lambda found: " " if found.group().isspace() else "\ufffd", text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    # Not click's own stream: a live display has put itself in the place of this one.
    click.echo(line.encode(encoding, "replace").decode(encoding), file=sys.stdout)


def say_over(text: str) -> None:
    """Show the end of a text on stderr, which is a terminal, in place of what was shown so before.

    Args:
        text: As much of its end as fits on a line; nothing clears the line.
    """
    room = max(1, shutil.get_terminal_size().columns - 1)
    shown = "".join(sign if sign.isprintable() else " " for sign in text)[-room:]
    click.echo(f"\r\x1b[K{shown}", err=True, nl=False, color=True)  # a terminal, whatever click thinks


def say_part(text: str) -> None:
    """Print part of a text as it is, at once, without ending the line.

    Line breaks and tabs are part of it; other control characters and what the terminal's encoding lacks are
    replaced.

    Args:
        text: Any text.

    Raises:
        BrokenPipeError: The reader went away.
    """
    part = _CONTROL.sub(lambda found: found.group() if found.group() in "\n\t" else "\ufffd", text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(part.encode(encoding, "replace").decode(encoding), nl=False)
    sys.stdout.flush()


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns, indented.

    Args:
        rows: Cells; all rows have as many.

    Returns:
        A line a row.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"  {line.rstrip()}" for line in lines)


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay a table out with spaces; its header is followed by a rule, columns of numbers are aligned right.

    Args:
        columns: Headings.
        rows: Cells; all rows have as many.

    Returns:
        Its lines.
    """
    cells = [[heading, *(row[index] for row in rows)] for index, heading in enumerate(columns)]
    padded = []
    for heading, *values in cells:
        width = max(len(cell) for cell in (heading, *values))
        side = ">" if is_numeric(values) else "<"
        padded.append([f"{cell:{side}{width}}" for cell in (heading, "-" * width, *values)])
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]


def is_numeric(cells: Sequence[str]) -> bool:
    """Whether most cells are numbers, with a unit or not.

    Args:
        cells: Of a column.
    """
    numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in cells)
    return 2 * numbers > len(cells)


def finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Replace the numbers that JSON cannot say (NaN, infinity) by null, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


def _outcome(command: click.Command, arguments: list[str]) -> tuple[int, dict[str, Any] | None]:
    """Exit code and document of a command, whatever happens in it."""
    try:
        result = _invoke(command, arguments)
    except click.exceptions.Exit as end:  # --help and --version
        return end.exit_code, None
    except BrokenPipeError:
        return leave_broken_pipe(), None
    except click.ClickException as error:
        error.show()
        result = {"error": {"exit": 2, "message": error.format_message()}}
    except (click.Abort, KeyboardInterrupt):
        result = failure(InterruptedBuildError("interrupted", RESUME))
    except EdgelrError as error:
        result = failure(error)
    except Exception as error:  # noqa: BLE001 - transformers and pickle raise anything for a file they cannot read
        expected = _expected(error)
        result = failure(expected) if expected is not None else _bug()
    failed = (result or {}).get("error")
    return (0 if failed is None else int(failed["exit"])), result


def _invoke(command: click.Command, arguments: list[str]) -> dict[str, Any] | None:
    """Parse and run; not ``command.main``, which has its own idea of a broken pipe and of Ctrl-C."""
    if COMPLETION in os.environ:
        command.main(arguments, prog_name=PROGRAM)
    with command.make_context(PROGRAM, arguments) as context:
        result: dict[str, Any] | None = command.invoke(context)
    return result


def _expected(error: Exception) -> EdgelrError | None:
    """The failure behind an error that can surface anywhere: a full disk, no permission, a missing extra."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in BUILD_EXTRA:
        return MissingRequirementError(
            f"this command needs the Python package {error.name!r}, which is not installed",
            "install the build extra: pip install 'edgelr[build]'",
        )
    if not isinstance(error, OSError):
        return None
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in FULL_DISK:
        return StorageError(
            where + (error.strerror or ""), f"free some space or choose another --out; {RESUME}"
        )
    if error.errno in NO_PERMISSION:
        return StorageError(
            f"{where}{error.strerror}", "check who may read and write there, or choose another place"
        )
    return None


def _bug() -> dict[str, Any]:
    """Write the traceback of the current exception to a log file and name it."""
    lines = f"edgelr {' '.join(sys.argv[1:])}\nPython {sys.version}\n\n{traceback.format_exc()}"
    last = traceback.format_exc().strip().splitlines()[-1]
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="edgelr-error-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.write(lines)
        where = f"the traceback is in {log.name}"
    except OSError:  # not even the temporary folder can be written: the screen is the only place left
        where = f"no log file could be written; the traceback:\n{lines}"
    message = f"this is a bug in edgelr: {last}\n  {where}; please report it with that file"
    say(f"edgelr: {message}", err=True)
    return {"error": {"exit": 1, "message": message}}


def leave_broken_pipe() -> int:
    """Give stdout somewhere to go, so that the interpreter's last flush is quiet.

    Returns:
        The exit code of a command that cannot do without its reader.
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return BROKEN_PIPE
