"""The process of one side of ``translation.py``: JSON lines in, JSON lines out, as ``edgelr.timing.worker``.

* ``{"do": "open", "kind": "edgelr" or "ctranslate2", "folder", "threads", "spinning"}`` gives ``{"load_ms",
  "model_bytes", "folder_bytes", "vocabulary", "compute_type"}``; null where the side does not say
* ``{"do": "time", "ids": [[id, ...], ...], "new_tokens": n, "beams": b, "seconds": s}`` gives
  ``{"first_ms": [...], "total_ms": [...]}``, one pair a call; the first call is not timed, and there are at
  least as many as asked for by ``"calls"`` (1)
* ``{"do": "memory"}`` gives ``{"peak_bytes"}``

Every call writes exactly ``n`` tokens for each source, the most probable ones, whether or not the end of the
sentence is among them.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from edgelr.device.schema import Device
from edgelr.errors import DataError, EdgelrError
from edgelr.timing.memory import peak_resident_bytes

Ids = list[list[int]]
Translate = Callable[[Ids, int, int], tuple[float, float]]
"""(source ids of each sentence, new tokens, beams) -> seconds until the first are there, and until all."""

MODEL_FILES = {".onnx", ".data", ".bin"}


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer requests until they end."""
    translate: Translate | None = None
    for line in requests:
        request = json.loads(line)
        reply: dict[str, Any]
        try:
            match request["do"]:
                case "open":
                    translate, reply = opened(request)
                case "time":
                    assert translate is not None
                    reply = timed(translate, request)
                case "memory":
                    reply = {"peak_bytes": peak_resident_bytes()}
                case unknown:
                    raise ValueError(f"unknown request {unknown!r}")
        except EdgelrError as error:
            reply = {"error": {"exit": error.exit_code, "found": error.found, "hint": error.hint}}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def opened(request: dict[str, Any]) -> tuple[Translate, dict[str, Any]]:
    """Open a side, and say how long that took and how large its files are."""
    folder, threads, spinning = Path(request["folder"]), request["threads"], request["spinning"]
    opens = open_ctranslate2 if request["kind"] == "ctranslate2" else open_edgelr
    translate, said = opens(folder, threads, spinning)
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return translate, {
        **said,
        "model_bytes": sum(size for path, size in sizes.items() if path.suffix in MODEL_FILES),
        "folder_bytes": sum(sizes.values()),
    }


def open_edgelr(folder: Path, threads: int, spinning: bool) -> tuple[Translate, dict[str, Any]]:
    """An edgelr package, in ONNX Runtime."""
    from edgelr.runtime import translate as runtime
    from edgelr.runtime.package import open_package

    device = device_with(threads, spinning=spinning)
    start = time.perf_counter()
    translator = runtime.open_translator(open_package(folder), device)
    load_ms = (time.perf_counter() - start) * 1e3

    endless = replace(translator.generation, eos_token_id=(), forced_eos_token_id=None, max_length=10**6)

    def translate(ids: Ids, new_tokens: int, beams: int) -> tuple[float, float]:
        if beams == 1:
            return runtime.timed_translation(translator, ids, new_tokens)[1:]
        searching = replace(translator, generation=endless)
        start = time.perf_counter()
        runtime.generate(searching, ids, beams=beams, max_tokens=new_tokens)
        spent = time.perf_counter() - start
        return spent, spent  # no token is known before the search is over

    return translate, {"load_ms": load_ms, "vocabulary": None, "compute_type": None}


def device_with(threads: int, *, spinning: bool) -> Device:
    """The profile ``cpu-1t`` with another number of threads; ``session.json`` of a package knows its name."""
    from edgelr.device.load import load_devices

    profile = load_devices()["cpu-1t"]
    entries = {**profile.session.entries, "session.intra_op.allow_spinning": str(int(spinning))}
    session = replace(profile.session, entries=entries)
    return replace(profile, name=f"cpu-{threads}t", threads=threads, session=session)


def open_ctranslate2(folder: Path, threads: int, spinning: bool) -> tuple[Translate, dict[str, Any]]:
    """A folder that CTranslate2 converted; what it wrote is counted, outside of the time."""
    # Its OpenMP reads this when it is loaded.
    os.environ["OMP_WAIT_POLICY"] = "ACTIVE" if spinning else "PASSIVE"
    import ctranslate2

    found = next(folder / name for name in VOCABULARIES if (folder / name).is_file())
    vocabulary: list[str] = json.loads(found.read_text(encoding="utf-8"))
    start = time.perf_counter()
    translator = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=threads)
    load_ms = (time.perf_counter() - start) * 1e3

    def seconds(sources: list[list[str]], new_tokens: int, beams: int) -> float:
        start = time.perf_counter()
        results = translator.translate_batch(
            sources, beam_size=beams, min_decoding_length=new_tokens, max_decoding_length=new_tokens
        )
        spent = time.perf_counter() - start
        lengths = {len(result.hypotheses[0]) for result in results}
        if lengths != {new_tokens}:
            raise DataError(f"CTranslate2 wrote {sorted(lengths)} tokens instead of {new_tokens}")
        return spent

    def translate(ids: Ids, new_tokens: int, beams: int) -> tuple[float, float]:
        sources = [[vocabulary[each] for each in source] for source in ids]
        # A call of its own: it tells nothing while it writes, but for a callback that costs time.
        return seconds(sources, 1, beams), seconds(sources, new_tokens, beams)

    said = {"load_ms": load_ms, "vocabulary": len(vocabulary), "compute_type": translator.compute_type}
    return translate, said


VOCABULARIES = ("shared_vocabulary.json", "source_vocabulary.json")


def timed(translate: Translate, request: dict[str, Any]) -> dict[str, list[float]]:
    """Call after call until the time is over, with the garbage collector off."""
    ids, new_tokens, beams = request["ids"], request["new_tokens"], request["beams"]
    gc.collect()
    gc.disable()
    try:
        translate(ids, new_tokens, beams)  # another process has had the caches
        end = time.perf_counter() + request["seconds"]
        pairs: list[tuple[float, float]] = []
        while len(pairs) < request.get("calls", 1) or time.perf_counter() < end:
            pairs.append(translate(ids, new_tokens, beams))
    finally:
        gc.enable()
    return {"first_ms": [first * 1e3 for first, _ in pairs], "total_ms": [total * 1e3 for _, total in pairs]}


def main() -> None:
    """Serve the standard streams; whatever a library prints goes to stderr and cannot spoil a reply."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
