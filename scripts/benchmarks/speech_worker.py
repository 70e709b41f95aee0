"""The process of one side of ``speech.py``: JSON lines in, JSON lines out, as ``edgelr.timing.worker``.

* ``{"do": "open", "kind": "edgelr" or "ctranslate2", "folder", "threads", "spinning"}`` gives ``{"load_ms",
  "model_bytes", "shipped_bytes", "compute_type"}``. CTranslate2 has no tokenizer, no prompt and no features:
  ``"like"`` is an edgelr package of the same checkpoint that these are taken from, ``"window"`` the samples
  that it reads at once, ``"features"`` a package whose ``features.onnx`` makes features of as many, or null:
  then transformers' own extractor of the folder ``"checkpoint"`` does
* ``{"do": "time", "audio_s": s, "new_tokens": n, "seconds": t}`` gives ``{"features_ms", "encoder_ms",
  "decoder_ms"}``, each with a number a call, of transcripts of exactly ``n`` tokens; the first call is not
  timed, and there are at least as many as asked for by ``"calls"`` (1)
* ``{"do": "transcribe", "paths": [...], "silence": bool}`` gives ``{"texts", "features_ms", "total_ms"}``,
  one of each for every sound, greedily; the first one is done once more before, and not timed. With
  ``silence`` CTranslate2 is also asked how sure it is, and leaves empty what edgelr does, which always looks
* ``{"do": "memory"}`` gives ``{"peak_bytes"}``
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
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DataError, EdgelrError, UnsupportedModelError
from edgelr.runtime import transcribe as runtime
from edgelr.runtime.audio import SAMPLE_RATE, read_audio
from edgelr.runtime.decoder_graph import SPEECH
from edgelr.runtime.generation import read_generation
from edgelr.runtime.graph import run_graph
from edgelr.runtime.long_audio import windows_of
from edgelr.runtime.package import FEATURES, model_path, open_package, session_entries
from edgelr.runtime.timed_transcript import timed_transcript
from edgelr.runtime.tokens import open_codec
from edgelr.timing.memory import peak_resident_bytes

Pcm = NDArray[np.float32]
Featured = Callable[[Pcm], NDArray[np.float32]]
"""Samples, at most a window -> features of the window ``[1, mels, frames]``."""

MODEL_FILES = {".onnx", ".data", ".bin"}
NO_SPEECH, UNSURE = 0.6, -1.0  # as in edgelr's own runtime


class Side(Protocol):
    """What is timed."""

    def timed(self, pcm: Pcm, new_tokens: int) -> tuple[float, float, float]:
        """Transcribe a window with a fixed number of tokens: seconds for features, encoder and decoder."""

    def heard(self, pcm: Pcm, silence: bool) -> tuple[str, float, float]:
        """Transcribe a sound: the text, seconds for features, and seconds for everything."""


class Stopwatch:
    """A session that notes how long it runs.

    Args:
        session: Of ONNX Runtime.

    Attributes:
        seconds: So far.
    """

    def __init__(self, session: Any) -> None:  # noqa: ANN401 - ONNX Runtime is untyped
        self._session, self.seconds = session, 0.0

    def run(self, *given: Any) -> Any:  # noqa: ANN401
        """As of the session."""
        start = time.perf_counter()
        results = self._session.run(*given)
        self.seconds += time.perf_counter() - start
        return results

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Anything else is the session's."""
        return getattr(self._session, name)


class EdgelrSide:
    """An edgelr package, in ONNX Runtime.

    Args:
        folder: The package.
        device: Where it runs.
    """

    def __init__(self, folder: Path, device: Device) -> None:
        opened = runtime.open_transcriber(open_package(folder), device)
        if not isinstance(opened, runtime.Transcriber):
            raise UnsupportedModelError(f"{folder} is of a model with CTC", "give a package of a Whisper")
        self._watch = Stopwatch(opened.features)
        self._transcriber = replace(opened, features=self._watch)

    def timed(self, pcm: Pcm, new_tokens: int) -> tuple[float, float, float]:
        """As of ``Side``."""
        return timed_transcript(self._transcriber, pcm, new_tokens)

    def heard(self, pcm: Pcm, silence: bool) -> tuple[str, float, float]:
        """As of ``Side``."""
        self._watch.seconds = 0.0
        start = time.perf_counter()
        text = runtime.text_of(runtime.transcribe(self._transcriber, [pcm], beams=1))
        return text, self._watch.seconds, time.perf_counter() - start


class CTranslate2Side:
    """A folder that CTranslate2 converted.

    Args:
        folder: The folder.
        threads: How many to compute with.
        like: A package of the same checkpoint: its tokenizer, its prompt and its longest transcript.
        featured: What makes features.
        window: Samples of a window.
    """

    def __init__(self, folder: Path, threads: int, like: Path, featured: Featured, window: int) -> None:
        import ctranslate2

        self._storage = ctranslate2.StorageView.from_array
        self._model = ctranslate2.models.Whisper(
            # By name: of an fp16 checkpoint it would want int8 with fp16, which no CPU has, and say so.
            str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
        )  # fmt: skip
        self.compute_type: str = self._model.compute_type
        package = open_package(like)
        generation = read_generation(like)
        self._codec = open_codec(like, package.settings)
        self._prompt = [generation.decoder_start_token_id, *generation.prompt_ids]
        self._ends = list(generation.eos_token_id)
        self._most = generation.max_length - len(self._prompt)
        self._featured, self._window = featured, window

    def timed(self, pcm: Pcm, new_tokens: int) -> tuple[float, float, float]:
        """As of ``Side``; the encoder's states do not leave CTranslate2 in between."""
        start = time.perf_counter()
        features = self._featured(pcm)
        made = time.perf_counter()
        states = self._model.encode(self._storage(features))
        read = time.perf_counter()
        (result,) = self._model.generate(
            states,
            [self._prompt],
            beam_size=1,
            max_length=self._length(new_tokens),
            suppress_tokens=[-1, *self._ends],
        )
        spent = time.perf_counter() - read
        if len(result.sequences_ids[0]) != new_tokens:
            raise DataError(f"CTranslate2 wrote {len(result.sequences_ids[0])} tokens, not {new_tokens}")
        return made - start, read - made, spent

    def heard(self, pcm: Pcm, silence: bool) -> tuple[str, float, float]:
        """As of ``Side``."""
        start = time.perf_counter()
        featured_s, segments = 0.0, []
        asked = {"return_scores": True, "return_no_speech_prob": True} if silence else {}
        for window in windows_of([pcm], self._window, SAMPLE_RATE):
            began = time.perf_counter()
            features = self._featured(window.pcm)
            featured_s += time.perf_counter() - began
            (result,) = self._model.generate(
                self._storage(features),
                [self._prompt],
                beam_size=1,
                max_length=self._length(self._most),
                **asked,
            )
            tokens = [] if silence and _nobody_speaks(result) else result.sequences_ids[0]
            text = self._codec.decode(tokens).strip()
            segments.append(
                runtime.Segment(
                    start_s=window.start_s, end_s=window.end_s, text=text, overlap_s=window.overlap_s
                )
            )
        return runtime.text_of(segments), featured_s, time.perf_counter() - start

    def _length(self, new_tokens: int) -> int:
        """What ``max_length`` has to be: it generates half of that, or that without the prompt, if less."""
        return max(2 * new_tokens, new_tokens + len(self._prompt) - 1)


def _nobody_speaks(result: Any) -> bool:  # noqa: ANN401 - CTranslate2 is untyped
    """By the numbers of Whisper's authors; the end token counts as one more that was sure."""
    words = len(result.sequences_ids[0])
    return bool(result.no_speech_prob > NO_SPEECH and result.scores[0] * words / (words + 1) < UNSURE)


def features_by_graph(package: Path, device: Device) -> Featured:
    """Features by a package's own graph."""
    opened = open_package(package)
    entries = session_entries(opened, device.name)
    session = open_session(model_path(opened, FEATURES), device, entries=entries)
    window = int(opened.settings["window_samples"])

    def featured(pcm: Pcm) -> NDArray[np.float32]:
        given = {"pcm": runtime.padded_window(pcm, window)}
        found: NDArray[np.float32] = run_graph(session, given)[SPEECH[0]]
        return found

    return featured


def features_by_transformers(checkpoint: Path, window: int, threads: int) -> Featured:
    """Features by the extractor of transformers, which computes them with torch."""
    import torch
    from transformers import AutoFeatureExtractor

    torch.set_num_threads(threads)
    extractor = AutoFeatureExtractor.from_pretrained(checkpoint, local_files_only=True)

    def featured(pcm: Pcm) -> NDArray[np.float32]:
        found = extractor(
            pcm, sampling_rate=SAMPLE_RATE, padding="max_length", max_length=window, return_tensors="np"
        )
        features: NDArray[np.float32] = np.ascontiguousarray(found["input_features"], np.float32)
        return features

    return featured


def opened(request: dict[str, Any]) -> tuple[Side, dict[str, Any]]:
    """Open a side, and say how long that took and how large its files are."""
    folder, threads, spinning = Path(request["folder"]), request["threads"], request["spinning"]
    device = device_of(threads, spinning)
    side: Side
    if request["kind"] == "edgelr":
        start = time.perf_counter()
        side, compute_type = EdgelrSide(folder, device), None
        load_ms = (time.perf_counter() - start) * 1e3
        shipped = open_package(folder).cost.bytes
    else:
        # Its OpenMP reads this when it is loaded.
        os.environ["OMP_WAIT_POLICY"] = "ACTIVE" if spinning else "PASSIVE"
        window = request["window"]
        if request["features"] is not None:
            featured = features_by_graph(Path(request["features"]), device)
        else:
            featured = features_by_transformers(Path(request["checkpoint"]), window, threads)
        start = time.perf_counter()
        side = CTranslate2Side(folder, threads, Path(request["like"]), featured, window)
        load_ms, compute_type = (time.perf_counter() - start) * 1e3, side.compute_type
        shipped = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix in MODEL_FILES)
    model_bytes = sum(path.stat().st_size for path in files)
    return side, {
        "load_ms": load_ms,
        "model_bytes": model_bytes,
        "shipped_bytes": shipped,
        "compute_type": compute_type,
    }


def device_of(threads: int, spinning: bool) -> Device:
    """The CPU with a number of threads."""
    profile = load_devices()["cpu-1t"]
    entries = {**profile.session.entries, "session.intra_op.allow_spinning": str(int(spinning))}
    session = replace(profile.session, entries=entries)
    return replace(profile, name=f"cpu-{threads}t", threads=threads, session=session)


def timed(side: Side, request: dict[str, Any]) -> dict[str, list[float]]:
    """Call after call until the time is over, with the garbage collector off."""
    samples = request["audio_s"] * SAMPLE_RATE
    pcm = (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)
    calls: list[tuple[float, float, float]] = []
    with _Uncollected():
        side.timed(pcm, request["new_tokens"])  # another process has had the caches
        end = time.perf_counter() + request["seconds"]
        while len(calls) < request.get("calls", 1) or time.perf_counter() < end:
            calls.append(side.timed(pcm, request["new_tokens"]))
    parts = ("features_ms", "encoder_ms", "decoder_ms")
    return {name: [call[part] * 1e3 for call in calls] for part, name in enumerate(parts)}


def transcribed(side: Side, request: dict[str, Any]) -> dict[str, list[Any]]:
    """Sound after sound, with the garbage collector off; reading the files is not timed."""
    sounds = [read_audio(Path(path)) for path in request["paths"]]
    with _Uncollected():
        side.heard(sounds[0], request["silence"])  # another process has had the caches
        found = [side.heard(sound, request["silence"]) for sound in sounds]
    return {
        "texts": [" ".join(text.split()) for text, _, _ in found],
        "features_ms": [features * 1e3 for _, features, _ in found],
        "total_ms": [total * 1e3 for _, _, total in found],
    }


class _Uncollected:
    def __enter__(self) -> None:
        gc.collect()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer requests until they end."""
    side: Side | None = None
    for line in requests:
        request = json.loads(line)
        reply: dict[str, Any]
        try:
            match request["do"]:
                case "open":
                    side, reply = opened(request)
                case "time":
                    assert side is not None
                    reply = timed(side, request)
                case "transcribe":
                    assert side is not None
                    reply = transcribed(side, request)
                case "memory":
                    reply = {"peak_bytes": peak_resident_bytes()}
                case unknown:
                    raise ValueError(f"unknown request {unknown!r}")
        except EdgelrError as error:
            reply = {"error": {"exit": error.exit_code, "found": error.found, "hint": error.hint}}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """Serve the standard streams; whatever a library prints goes to stderr and cannot spoil a reply."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
