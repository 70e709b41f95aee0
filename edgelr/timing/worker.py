"""The process that times sessions: ``python -m edgelr.timing.worker``, JSON lines in, JSON lines out.

A variant that is validated has a process of its own, so that its threads, its memory and its caches are its
own; the many small graphs of ``rounds.py`` share one and have names. The one who asks (``process.py``) lets
one worker at a time measure. Requests and replies:

* ``{"do": "ready", "cpus": [numbers]}`` gives ``{"pinned"}`` once the process runs on these CPUs only, where
  that is allowed, and ONNX Runtime is loaded; it may be left out
* ``{"do": "open", "model": path, "device": {...}, "entries": {...}}`` gives ``{"load_ms", "threads"}``; of a
  device with fixed shapes also ``"sizes"``; with
  ``"translation": folder``, ``"transcript": folder`` or ``"continuation": folder`` in place of the model,
  calls are whole translations, transcripts or continuations by that package, and its own settings come before
  the entries
* ``{"do": "first", "inputs": {...}}`` gives ``{"first_ms"}``: of a call, the first one if nothing came before
* ``{"do": "warm", "inputs": {name: nested list}, "seconds": cap}`` gives ``{"calls", "settled"}``
* ``{"do": "time", "inputs": {...}, "seconds": budget}`` gives ``{"times_ms": [...], "noted": {...}}``: of
  what is written ``"first_ms"``, the times to the first token, and those of its parts; of transcripts too
* ``{"do": "memory"}`` gives ``{"peak_bytes"}``
* ``{"do": "placement"}`` gives ``{"nodes": {"role/node (kind)": provider}}``, of a session that was opened to
  record it
* ``{"do": "profile", "inputs": {...}, "seconds": budget}`` gives ``{"ms": {operator: per call}}``, of a
  session that was opened with ``"profile": true``; it is of no use afterwards

``"session": name`` in a request says which session; without it there is only one. An input is a nested list
of integers, or for what would be long to send ``{"normal": shape}`` (random floats) or ``{"ones": shape}``,
both with a ``dtype`` if it is not float32, or the bytes of an array, see ``feeds.py``.

A failure that a person can understand is ``{"error": {"exit", "found", "hint"}}``.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, cast

from edgelr.device.host import threads_used
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import EdgelrError
from edgelr.runtime.graph import run_graph
from edgelr.timing.affinity import pin
from edgelr.timing.feeds import feeds
from edgelr.timing.memory import peak_resident_bytes
from edgelr.timing.placed import placed_nodes
from edgelr.timing.profile import operator_times
from edgelr.typed import typed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from edgelr.timing.speech import TimedTranscript
    from edgelr.timing.text_generation import TimedContinuation
    from edgelr.timing.translation import TimedTranslation

    Feeds = dict[str, NDArray[Any]]
    Timed: TypeAlias = InferenceSession | TimedTranslation | TimedTranscript | TimedContinuation

WINDOW_CALLS = 5
SETTLED_SHARE = 0.05
SETTLING_CALLS = 2  # untimed at the start of a block: another process has had the caches
MAX_CALLS = 20_000


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer requests until they end.

    Args:
        requests: One JSON document a line.
        replies: Likewise.
    """
    sessions: dict[str, Timed] = {}
    for line in requests:
        request = json.loads(line)
        name = request.get("session", "")
        try:
            if request["do"] == "ready":
                reply = get_ready(request["cpus"])
            elif request["do"] == "open":
                sessions[name], reply = open_timed(request)
            else:
                reply = answer(sessions[name], request)
        except EdgelrError as error:
            reply = {"error": {"exit": error.exit_code, "found": error.found, "hint": error.hint}}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def get_ready(cpus: list[int]) -> dict[str, Any]:
    """Stay on some CPUs, and load what is the same for every model, so that no one's load time has it.

    Args:
        cpus: As of ``affinity.choose_cpus``.
    """
    pinned = pin(cpus)
    import onnxruntime  # noqa: F401

    return {"pinned": pinned}


def open_timed(request: dict[str, Any]) -> tuple[Timed, dict[str, Any]]:
    """Open the session and say how long that took.

    Args:
        request: See the module's docstring.

    Raises:
        EdgelrError: The model cannot be opened on the device.
    """
    device = typed(Device, request["device"])
    # The prefix of a file; this process removes it with the folder when it ends.
    profile = Path(_scratch()) / "profile" if request.get("profile") else None
    entries = request.get("entries", {})
    start = time.perf_counter()
    session: Timed
    if "translation" in request:
        from edgelr.timing.translation import TimedTranslation

        session = TimedTranslation(Path(request["translation"]), device, entries, profile)
    elif "transcript" in request:
        from edgelr.timing.speech import TimedTranscript

        session = TimedTranscript(Path(request["transcript"]), device, entries, profile)
    elif "continuation" in request:
        from edgelr.timing.text_generation import TimedContinuation

        session = TimedContinuation(Path(request["continuation"]), device, entries, profile)
    else:
        sizes = request.get("sizes", ())
        session = open_session(Path(request["model"]), device, entries=entries, profile=profile, sizes=sizes)
    load_ms = (time.perf_counter() - start) * 1e3
    return session, {"load_ms": load_ms, "threads": threads_used(device)}


def answer(session: Timed, request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request other than ``open``.

    Args:
        session: The open session.
        request: See the module's docstring.

    Raises:
        UnsupportedModelError: The graph fails on the inputs.
    """
    match request["do"]:
        case "first":
            return {"first_ms": first_call_ms(session, feeds(request["inputs"]))}
        case "warm":
            return warm_up(session, feeds(request["inputs"]), seconds=request["seconds"])
        case "time":
            return _timed(session, feeds(request["inputs"]), seconds=request["seconds"])
        case "memory":
            return {"peak_bytes": peak_resident_bytes()}
        case "placement":
            return {"nodes": placed_nodes(sessions_of(session))}
        case "profile":
            times = time_calls(session, feeds(request["inputs"]), seconds=request["seconds"])
            return {"ms": operator_times(sessions_of(session), len(times) + SETTLING_CALLS)}
        case unknown:
            raise ValueError(f"unknown request {unknown!r}")


def _timed(session: Timed, given: Feeds, *, seconds: float) -> dict[str, Any]:
    times = time_calls(session, given, seconds=seconds)
    noted = getattr(session, "noted", {})
    return {"times_ms": times, "noted": {name: values[-len(times) :] for name, values in noted.items()}}


def warm_up(session: Timed, given: Feeds, *, seconds: float) -> dict[str, Any]:
    """Call until the medians of two windows in a row agree within 5 %, or the time is over.

    Args:
        session: The open session.
        given: Graph inputs.
        seconds: Longest time.

    Returns:
        ``calls`` made, and whether the times ``settled``.

    Raises:
        UnsupportedModelError: The graph fails on the inputs.
    """
    first_call_ms(session, given)
    end = time.perf_counter() + seconds
    before, calls = float("inf"), 1
    while time.perf_counter() < end:
        window = [_call_ms(session, given) for _ in range(WINDOW_CALLS)]
        calls += WINDOW_CALLS
        median = statistics.median(window)
        if abs(median - before) <= SETTLED_SHARE * median:
            return {"calls": calls, "settled": True}
        before = median
    return {"calls": calls, "settled": False}


def time_calls(session: Timed, given: Feeds, *, seconds: float) -> list[float]:
    """Time call after call, with the garbage collector off, until the time is over; at least one call.

    Args:
        session: The open session.
        given: Graph inputs.
        seconds: Time to fill.

    Returns:
        Milliseconds of every call.
    """
    gc.collect()
    gc.disable()
    try:
        for _ in range(SETTLING_CALLS):
            _call_ms(session, given)
        end = time.perf_counter() + seconds
        times = [_call_ms(session, given)]
        while time.perf_counter() < end and len(times) < MAX_CALLS:
            times.append(_call_ms(session, given))
        return times
    finally:
        gc.enable()


def sessions_of(timed: Timed) -> dict[str, InferenceSession]:
    """The sessions that a call runs, by role; a graph alone has the role ``""``."""
    found: dict[str, InferenceSession] = getattr(timed, "sessions", {"": timed})
    return found


@functools.cache
def _scratch() -> str:
    folder = tempfile.mkdtemp(prefix="edgelr-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def first_call_ms(session: Timed, given: Feeds) -> float:
    """One call whose faults are said in words.

    Args:
        session: The open session.
        given: Graph inputs.

    Raises:
        UnsupportedModelError: The graph fails on the inputs.
    """
    start = time.perf_counter_ns()
    if hasattr(session, "noted"):  # a whole package, which says them itself
        session.run(None, given)
    else:
        run_graph(cast("InferenceSession", session), given)
    return (time.perf_counter_ns() - start) / 1e6


def _call_ms(session: Timed, given: Feeds) -> float:
    start = time.perf_counter_ns()
    session.run(None, given)
    return (time.perf_counter_ns() - start) / 1e6


def main() -> None:
    """Serve the standard streams; whatever a library prints goes to stderr and cannot spoil a reply."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
