"""The process that times sessions: ``python -m edgelr.timing.worker``, JSON lines in, JSON lines out.

A variant that is validated has a process of its own, so that its threads, its memory and its caches are its
own; the many small graphs of ``rounds.py`` share one and have names. The one who asks (``process.py``) lets
one worker at a time measure. Requests and replies:

* ``{"do": "open", "model": path, "device": {...}, "entries": {...}}`` gives ``{"load_ms", "threads"}``; with
  ``"translation": folder`` or ``"transcript": folder`` in place of model and entries, calls are whole
  translations or transcripts by that package
* ``{"do": "warm", "inputs": {name: nested list}, "seconds": cap}`` gives ``{"calls", "settled"}``
* ``{"do": "time", "inputs": {...}, "seconds": budget}`` gives ``{"times_ms": [...], "noted": {...}}``: of
  translations ``"first_ms"``, the times to their first token; of transcripts those of their parts
* ``{"do": "memory"}`` gives ``{"peak_bytes"}``
* ``{"do": "profile", "inputs": {...}, "seconds": budget}`` gives ``{"ms": {operator: per call}}``, of a
  session that was opened with ``"profile": true``; it is of no use afterwards

``"session": name`` in a request says which session; without it there is only one. An input is a nested list
of integers, or for what would be long to send ``{"normal": shape}`` (random floats) or ``{"ones": shape}``,
both with a ``dtype`` if it is not float32.

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
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, cast

from edgelr.device.host import threads_used
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import EdgelrError
from edgelr.runtime.graph import run_graph
from edgelr.timing.feeds import feeds
from edgelr.timing.memory import peak_resident_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from edgelr.timing.speech import TimedTranscript
    from edgelr.timing.translation import TimedTranslation

    Feeds = dict[str, NDArray[Any]]
    Timed: TypeAlias = InferenceSession | TimedTranslation | TimedTranscript

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
            if request["do"] == "open":
                sessions[name], reply = open_timed(request)
            else:
                reply = answer(sessions[name], request)
        except EdgelrError as error:
            reply = {"error": {"exit": error.exit_code, "found": error.found, "hint": error.hint}}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def open_timed(request: dict[str, Any]) -> tuple[Timed, dict[str, Any]]:
    """Open the session and say how long that took.

    Args:
        request: ``device``, and ``model`` and ``entries`` or ``translation``.

    Raises:
        EdgelrError: The model cannot be opened on the device.
    """
    device = Device.model_validate_json(json.dumps(request["device"]))
    # The prefix of a file; this process removes it with the folder when it ends.
    profile = Path(_scratch()) / "profile" if request.get("profile") else None
    start = time.perf_counter()
    session: Timed
    if "translation" in request:
        from edgelr.timing.translation import TimedTranslation

        session = TimedTranslation(Path(request["translation"]), device)
    elif "transcript" in request:
        from edgelr.timing.speech import TimedTranscript

        session = TimedTranscript(Path(request["transcript"]), device)
    else:
        session = open_session(Path(request["model"]), device, entries=request["entries"], profile=profile)
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
        case "warm":
            return warm_up(session, feeds(request["inputs"]), seconds=request["seconds"])
        case "time":
            return _timed(session, feeds(request["inputs"]), seconds=request["seconds"])
        case "memory":
            return {"peak_bytes": peak_resident_bytes()}
        case "profile":
            return {
                "ms": profile_operators(
                    cast("InferenceSession", session), feeds(request["inputs"]), seconds=request["seconds"]
                )
            }
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
    _first_call(session, given)
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


def profile_operators(session: InferenceSession, given: Feeds, *, seconds: float) -> dict[str, float]:
    """Milliseconds a call that each kind of operator takes, by ONNX Runtime's own profile.

    Args:
        session: Opened with a profile.
        given: Graph inputs.
        seconds: Time to fill.
    """
    calls = len(time_calls(session, given, seconds=seconds)) + SETTLING_CALLS
    path = Path(session.end_profiling())
    events = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return {name: micros / 1e3 / calls for name, micros in spent.items()}


@functools.cache
def _scratch() -> str:
    folder = tempfile.mkdtemp(prefix="edgelr-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _first_call(session: Timed, given: Feeds) -> None:
    """One call whose faults are said in words."""
    if hasattr(session, "noted"):  # a whole package, which says them itself
        session.run(None, given)
    else:
        run_graph(cast("InferenceSession", session), given)


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
