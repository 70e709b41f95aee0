"""A worker process and talking to it: it may die or hang, and then the error says whose it was."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from edgelr.errors import EdgelrError, UnsupportedModelError

WORKER = (sys.executable, "-P", "-m", "edgelr.timing.worker")
PATIENCE_SECONDS = 120.0  # for an answer, on top of the time it was asked to measure
_END_SECONDS = 5.0  # for a worker whose requests have ended
_TAIL_LINES = 3


class LostProcessError(UnsupportedModelError):
    """The process itself ended without a word: it may be the host's fault, and may not happen again."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A running worker.

    Attributes:
        label: What errors name: a variant and the device, or what else it times.
        process: Where it runs.
        replies: Its lines, as they come; None when they have ended.
        log: What it printed on stderr.
    """

    label: str
    process: subprocess.Popen[str]
    replies: queue.Queue[str | None]
    log: IO[str]


@contextmanager
def running_worker(label: str, command: Sequence[str] = WORKER) -> Iterator[Worker]:
    """Start a worker, and end it whatever happens.

    Args:
        label: What errors name, such as ``candidate on cpu-1t``.
        command: What to start.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(),
            encoding="utf-8",
        )
        replies: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_forward, args=(process, replies), daemon=True)
        reader.start()
        try:
            yield Worker(label=label, process=process, replies=replies, log=log)
        finally:
            _end(process)
            reader.join(_END_SECONDS)


def ask(worker: Worker, request: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    """Send a request and wait for its reply.

    Args:
        worker: A running worker.
        request: JSON values; ``do`` says what.
        seconds: Longest time to wait.

    Returns:
        The reply.

    Raises:
        LostProcessError: The worker ended.
        UnsupportedModelError: It did not answer in time.
        EdgelrError: What the worker reports: the class with its exit code.
    """
    assert worker.process.stdin is not None
    try:
        worker.process.stdin.write(json.dumps(request) + "\n")
        worker.process.stdin.flush()
        line = worker.replies.get(timeout=seconds)
    except queue.Empty:
        worker.process.kill()
        raise UnsupportedModelError(
            f"{worker.label}: no answer to {request['do']!r} after {seconds:g} s",
            "the graph hangs or this host is overloaded; try fewer threads or shorter lengths",
        ) from None
    except OSError:  # it died before it read the request
        line = None
    if line is None:
        raise _ended(worker, request["do"])
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        raise _reported(worker.label, reply["error"])
    return reply


def _forward(process: subprocess.Popen[str], replies: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        replies.put(line)
    replies.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it died with a request unread
        process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ended(worker: Worker, doing: str) -> LostProcessError:
    _end(worker.process)
    code = worker.process.returncode
    how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
    worker.log.seek(0)
    tail = worker.log.read().strip().splitlines()[-_TAIL_LINES:]
    hint = "perhaps the host ran out of memory" if how.endswith("SIGKILL") else None
    return LostProcessError(
        f"{worker.label}: the measuring process ended with {how} at {doing!r}", "; ".join(tail) or hint
    )


def _reported(label: str, report: dict[str, Any]) -> EdgelrError:
    kinds = {kind.exit_code: kind for kind in EdgelrError.__subclasses__()}
    return kinds[report["exit"]](f"{label}: {report['found']}", report["hint"])


def _environment() -> dict[str, str]:
    """The worker imports what this process would, installed or not; -P: nothing from the working folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
