"""Packages that transcribe: judged by references and by the dense model's transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.examples import AnyExample, Utterance, spread
from edgelr.kinds.cosines import COMPARED, cosines
from edgelr.kinds.kind import Judge
from edgelr.kinds.outputs import dense_texts
from edgelr.kinds.sources import sound_sources
from edgelr.kinds.steps import SOURCES, compare_steps, step_feeds
from edgelr.runtime.decoder_graph import heard_by
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path, session_entries

if TYPE_CHECKING:
    from edgelr.device.schema import Device
    from edgelr.kinds.kind import Feeds, Sessions
    from edgelr.progress import Progress

EXAMPLE = Utterance
OPTIONS = ("beam", "max_tokens", "segments")
UNIT = "s"
RUNS = 1

_WINDOWS = 64  # to calibrate a model with CTC on, which has no steps

dense_answers = dense_texts


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Transcribe every file; see ``use_speech.py``."""
    from edgelr.use_speech import transcribe_files

    return transcribe_files(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """Greedy transcripts, one sound a call, next to the references."""
    from edgelr.metrics.speech import speech_scores
    from edgelr.runtime.answers import transcripts_of

    heard = [each for each in examples if isinstance(each, Utterance)]
    references = [each.text for each in heard]
    return Judge(
        answer=lambda package, sessions, each: transcripts_of(
            package, sessions, (example_sound(folder, example) for example in heard), each
        ),
        score=lambda own, dense: speech_scores(own, references, dense),
    )


def parity(package: Package, sessions: Sessions) -> None:
    """None: what the dense model said in torch is stored for every example, and ``agreement`` counts."""


def notes() -> tuple[str, ...]:
    """Nothing: a word error rate is one wherever it is published, once the text is normalized."""
    return ()


def feeds(package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
    """Features of some sounds, and the decoder's first steps on them."""
    heard = [each for each in examples if isinstance(each, Utterance)]
    if _has_letters(package):
        return {"model": list(sound_sources(package, spread(heard, _WINDOWS), folder))}
    return step_feeds(package, sound_sources(package, spread(heard, SOURCES), folder), _reads(package))


def compare(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """All graphs but the features on the package's own examples; see ``Kind.compare``."""
    examples = spread(folder_examples(package.folder, Utterance), COMPARED)
    windows = sound_sources(package, examples, package.folder)
    if _has_letters(package):
        return {"model": _compare_letters(package, folder, windows, progress)}
    return compare_steps(package, folder, windows, _reads(package), progress)


def timed(package: Package, device: Device) -> dict[str, Any]:
    """A whole transcript."""
    return {"transcript": str(package.folder), "entries": session_entries(package, device.name)}


def timed_inputs(package: Package, length: int) -> dict[str, Any]:
    """A sound of ``length`` seconds, transcribed into as many tokens as people say in that time."""
    return {"audio_s": length}


def _has_letters(package: Package) -> bool:
    """Whether it is one graph that scores letters, with CTC."""
    return "model" in package.graphs


def _reads(package: Package) -> tuple[str, ...]:
    return heard_by(entry.name for entry in package.graphs["encoder"].inputs)


def _compare_letters(package: Package, folder: Path, windows: Sequence[Feeds], progress: Progress) -> float:
    """Scores of every position, about their mean."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session

    device = load_devices()["cpu-1t"]
    fp32 = model_path(package)
    dense, small = (open_session(path, device) for path in (fp32, folder / fp32.name))
    found = []
    with progress.bar("comparing with fp32", len(windows)) as advance:
        for window in windows:
            one, other = (run_graph(session, window)["logits"][0] for session in (dense, small))
            one, other = (scores - scores.mean(axis=1, keepdims=True) for scores in (one, other))
            found.append(cosines(one, other, fp32.name))
            advance()
    return float(np.concatenate(found).mean())
