"""How long work is shown: stages, bars, notes and the closing summary, always on stderr.

On a terminal rich draws spinners and bars, which vanish when their work is done; anywhere else (a pipe, CI,
``NO_COLOR``) the same news are plain lines without control characters. A log file, when there is one, gets
the plain lines with the time of day in both cases.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgelr.terminal import aligned, is_numeric
from edgelr.writing import writing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Live

LINE_EVERY_SHARE = 0.1
LINE_EVERY_S = 15.0
LINE_AFTER_S = 1.0  # a loop that is over by then is told once, at its end

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Progress:
    """Where a build tells what it does.

    Args:
        quiet: Print nothing (library use); ``warnings`` and the log are kept all the same.
        plain: Lines instead of a live display; decided by the terminal and the environment when None.
        log: A file that gets every line with a timestamp, after what it already holds.

    Attributes:
        warnings: Every warning so far, for the report.
    """

    def __init__(self, *, quiet: bool = False, plain: bool | None = None, log: Path | None = None) -> None:
        self.warnings: list[str] = []
        self._quiet = quiet
        self._rich = not quiet and not (is_plain(os.environ) if plain is None else plain)
        self._log = log
        self._reused: set[str] = set()
        self._live: Live | None = None

    def log_to(self, log: Path) -> None:
        """From now on, also write every line to ``log``, after what it already holds."""
        self._log = log

    @contextmanager
    def stage(self, name: str, about: str = "") -> Iterator[None]:
        """Show a stage while it runs, and how it ended.

        Args:
            name: The stage; ``reused(name)`` before its end makes it end with "reused".
            about: What it does, a few words.
        """
        self._reused.discard(name)
        started = time.monotonic()
        self._say(f"{name}  {about}".rstrip(), "bold")
        end, style = "failed", "bold red"
        try:
            with self._shown(name, total=None):
                yield
            end, style = ("reused", "cyan") if name in self._reused else ("done", "green")
        except KeyboardInterrupt:
            end = "interrupted"
            raise
        finally:
            joint = "in" if end in ("done", "reused") else "after"
            self._say(f"{name}  {end} {joint} {duration(time.monotonic() - started)}", style)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[..., None]]:
        """Show a long loop.

        Args:
            label: What is counted.
            total: How many steps there are; fewer may be made.

        Yields:
            ``advance(steps=1, note="")``: tell that steps are done, with a few words such as ``"loss 0.12"``.
        """
        lines = _Lines(label, total, self._plain_line)
        with self._shown(label, total) as update:

            def advance(steps: int = 1, note: str = "") -> None:
                lines.advance(steps, note)
                update(lines.done, _clean(note))

            yield advance
        lines.finish()

    def reused(self, name: str) -> None:
        """Mark the running stage ``name`` as found in the store rather than built."""
        self._reused.add(name)

    def note(self, text: str) -> None:
        """Tell something worth knowing."""
        self._say(f"  {text}", "")

    def warn(self, text: str) -> None:
        """Tell something that may be wrong, and keep it for the report."""
        self.warnings.append(text)
        self._say(f"warning: {text}", "yellow")

    def summary(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Show the closing box: a title, and what is worth remembering as (name, value)."""
        width = max((len(name) for name, _ in rows), default=0)
        lines = [title, *(f"  {name:<{width}}  {value}".rstrip() for name, value in rows)]
        self._write_log("\n".join(lines))
        if self._rich:
            self._draw_summary(title, rows)
        elif not self._quiet:
            _print("\n".join(lines))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table; columns of numbers are aligned to the right."""
        lines = [title, *(f"  {line}" for line in aligned(columns, rows))]
        self._write_log("\n".join(lines))
        if self._rich:
            self._draw_table(title, columns, rows)
        elif not self._quiet:
            _print("\n".join(lines))

    # --- the live display ---------------------------------------------------------------------------

    @contextmanager
    def _shown(self, label: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
        """Keep a line of the live display while the block runs; the last one out stops the display."""
        if not self._rich:
            yield lambda done, note: None
            return
        outermost = self._live is None
        live = self._live or _live_display()
        if outermost:
            self._live = live
            live.start()
        task = live.add_task(_clean(label), total=total, note="", count="")
        try:
            yield lambda done, note: live.update(task, completed=done, note=note, count=f"{done}/{total}")
        finally:
            live.remove_task(task)
            if outermost:
                self._live = None
                live.stop()

    def _say(self, text: str, style: str) -> None:
        self._write_log(text)
        if self._rich:
            from rich.text import Text

            self._draw(Text(_clean(text), style=style))
        elif not self._quiet:
            _print(text)

    def _plain_line(self, text: str) -> None:
        self._write_log(text)
        if not self._rich and not self._quiet:
            _print(text)

    def _draw_summary(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for name, value in rows:
            grid.add_row(Text(_clean(name), style="bold"), Text(_clean(value), overflow="fold"))
        self._draw(Panel(grid, title=Text(_clean(title)), title_align="left", expand=False))

    def _draw_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(_clean(title)), title_justify="left")
        for index, column in enumerate(columns):
            numeric = is_numeric([row[index] for row in rows])
            table.add_column(Text(_clean(column)), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_clean(cell)) for cell in row))
        self._draw(table)

    def _draw(self, drawing: object) -> None:
        console = self._live.console if self._live is not None else _console()
        console.print(drawing)

    def _write_log(self, text: str) -> None:
        if self._log is None:
            return
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with writing(self._log.parent):
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{now}  {line}\n" for line in _clean(text).splitlines())


class _Lines:
    """A bar told as lines: one about every tenth of the way or quarter of a minute, and one at the end."""

    def __init__(self, label: str, total: int, tell: Callable[[str], None]) -> None:
        self.done = 0
        self._label = label
        self._total = total
        self._tell = tell
        self._note = ""
        self._started = self._told_at = time.monotonic()
        self._told = 0

    def advance(self, steps: int, note: str) -> None:
        self.done += steps
        self._note = note
        silent_s = time.monotonic() - self._told_at
        long_way = self.done - self._told >= LINE_EVERY_SHARE * self._total
        if (long_way and silent_s >= LINE_AFTER_S) or silent_s >= LINE_EVERY_S:
            self._line()

    def finish(self) -> None:
        if self.done != self._told:
            self._line()

    def _line(self) -> None:
        self._told, self._told_at = self.done, time.monotonic()
        share = self.done / self._total if self._total else 1.0
        took = duration(self._told_at - self._started)
        self._tell(f"  {self._label}  {self.done}/{self._total} ({share:.0%})  {took}  {self._note}".rstrip())


def is_plain(environment: Mapping[str, str]) -> bool:
    """Whether stderr gets plain lines: not a terminal, or NO_COLOR, CI or a dumb terminal says so."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return True
    return environment.get("CI", "").lower() not in ("", "0", "false") or not sys.stderr.isatty()


def duration(seconds: float) -> str:
    """Say how long something took, as a person would: ``0.4 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _live_display() -> Live:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Live

    return Live(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
        console=_console(),
        transient=True,
        # On the same terminal, results stand above the display; anywhere else they stay on stdout.
        redirect_stdout=sys.stdout.isatty(),
    )


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)


def _clean(text: str) -> str:
    """Take out what would steer a terminal: names and texts may come from strangers."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").expandtabs(4))


def _print(text: str) -> None:
    sys.stderr.write(f"{_clean(text)}\n")
    sys.stderr.flush()
