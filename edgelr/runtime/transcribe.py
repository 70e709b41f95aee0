"""Sounds in, texts out: the light face of the task ``automatic-speech-recognition``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.ctc import Letters, check_letters, likeliest, prefix_beam_search, read_letters
from edgelr.runtime.decode import SourceDecoder, beam_search, greedy
from edgelr.runtime.decoder_graph import SPEECH, GraphDecoder, heard_by
from edgelr.runtime.generation import Generation, check_tokens, read_generation, tells_times
from edgelr.runtime.graph import run_graph
from edgelr.runtime.logits import log_softmax
from edgelr.runtime.long_audio import Pcm, Window, join_texts, padded_window, windows_of
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.package import FEATURES, MANIFEST
from edgelr.runtime.silence import Listening
from edgelr.runtime.timestamps import Phrase, phrases_of, with_times, words_of
from edgelr.runtime.tokens import Codec, check_codec, open_codec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

ENCODER, DECODER = "encoder", "decoder"
ROLES = (FEATURES, ENCODER, DECODER)
MODEL = "model"  # of a package with CTC, beside its features
SAMPLE_RATE = 16_000
SHORTEST = 895  # samples: what the filters of Moonshine take; those of wav2vec2 take 400


@dataclass(frozen=True, kw_only=True)
class Transcriber:
    """A speech package, open on a device.

    Attributes:
        codec: Its tokenizer.
        generation: How it generates.
        features: Session of what makes features of samples.
        decoder: Its other graphs.
        window: Samples that it reads at once.
        reads: What its encoder reads: features of a whole window, or as many samples as there are.
        timed: How it generates with times between the words; None where it has none.
    """

    codec: Codec
    generation: Generation
    features: InferenceSession
    decoder: SourceDecoder
    window: int
    reads: str = SPEECH[0]
    timed: Generation | None = None


@dataclass(frozen=True, kw_only=True)
class CtcTranscriber:
    """A package of a model with CTC, open on a device.

    Attributes:
        letters: What its scores stand for.
        features: Session of what makes the loudness of samples right.
        model: Session of the model.
        window: Samples that it reads at once.
    """

    letters: Letters
    features: InferenceSession
    model: InferenceSession
    window: int


AnyTranscriber = Transcriber | CtcTranscriber


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What is said in a window of a sound.

    Attributes:
        start_s: Where it begins.
        end_s: Where it ends.
        text: Its transcript.
        overlap_s: How much of it is also in the segment before.
        phrases: Its parts with times of their own, where these were asked for and the model tells them.
        final: Whether the window is whole; see ``stream``.
    """

    start_s: float
    end_s: float
    text: str
    overlap_s: float = 0.0
    phrases: tuple[Phrase, ...] = ()
    final: bool = True


def open_transcriber(package: Package, device: Device) -> AnyTranscriber:
    """Open the graphs of a package, with the settings measured as best for the device, and its tokenizer.

    Args:
        package: As opened by ``open_package``. Its setting ``max_tokens`` is the most tokens of a transcript,
            ``window_samples`` how much sound it reads at once.
        device: Where it runs.

    Raises:
        DamagedArtifactError: A graph, the tokenizer, ``generation.json`` or a setting is unusable, or they do
            not belong together.
        MissingRequirementError: The device's provider is not here.
    """
    roles = (FEATURES, MODEL) if MODEL in package.graphs else ROLES
    return transcriber_of(package, open_graphs(package, device, roles))


def transcriber_of(package: Package, sessions: Mapping[str, InferenceSession]) -> AnyTranscriber:
    """Put a transcriber together from sessions of its graphs.

    Args:
        package: As opened by ``open_package``.
        sessions: By role.

    Raises:
        DamagedArtifactError: As ``open_transcriber``.
    """
    window = package.settings.get("window_samples")
    if not isinstance(window, int) or window < 1:
        raise DamagedArtifactError(
            f"{package.folder / MANIFEST}: settings.window_samples is {window!r}, not a count",
            "get or build the package again",
        )
    if MODEL in sessions:
        letters = read_letters(package.folder)
        check_letters(package.folder, letters, sessions[MODEL])
        return CtcTranscriber(
            letters=letters, features=sessions[FEATURES], model=sessions[MODEL], window=window
        )
    codec = open_codec(package.folder, package.settings)
    generation = read_generation(package.folder)
    reads = heard_by(entry.name for entry in sessions[ENCODER].get_inputs())
    graphs = GraphDecoder(sessions[ENCODER], sessions[DECODER], reads)
    check_codec(codec, graphs.vocabulary)
    check_tokens(package.folder, generation, graphs.vocabulary)
    return Transcriber(
        codec=codec,
        generation=generation,
        features=sessions[FEATURES],
        decoder=graphs,
        window=window,
        reads=reads[0],
        timed=with_times(generation, graphs.vocabulary),
    )


def transcribe(
    transcriber: AnyTranscriber,
    blocks: Iterable[Pcm],
    *,
    beams: int | None = None,
    max_tokens: int | None = None,
    times: bool = False,
) -> Iterator[Segment]:
    """Transcribe a sound window by window, as it comes; see ``windows_of`` for where a longer one is cut.

    Args:
        transcriber: The package.
        blocks: PCM ``[samples]`` of 16 kHz, in order.
        beams: 1 is greedy; the package's own when None.
        max_tokens: Most tokens a window, if that is fewer than the package allows.
        times: Let a Whisper that knows times tell them; its words may be others then.

    Yields:
        A segment a window; its text is empty where nobody speaks.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on a graph.
    """
    for window in windows_of(blocks, transcriber.window, SAMPLE_RATE):
        yield hear(transcriber, window, beams=beams, max_tokens=max_tokens, times=times)


def hear(
    transcriber: AnyTranscriber,
    window: Window,
    *,
    beams: int | None = None,
    max_tokens: int | None = None,
    times: bool = False,
) -> Segment:
    """Transcribe a window; arguments and errors are as of ``transcribe``."""
    told: tuple[Phrase, ...] = ()
    match transcriber:
        case Transcriber():
            settings = (transcriber.timed if times else None) or transcriber.generation
            chosen = settings.num_beams if beams is None else beams
            tokens = generate(transcriber, window.pcm, beams=chosen, max_tokens=max_tokens, times=times)
            decode = transcriber.codec.decode
            text = decode(words_of(tokens, settings)).strip()
            if tells_times(settings):
                told = phrases_of(tokens, settings, decode, window.start_s, window.end_s)
        case CtcTranscriber():
            text = letters_of(transcriber, window.pcm, beams=beams or 1)
    return Segment(
        start_s=window.start_s,
        end_s=window.end_s,
        text=text,
        overlap_s=window.overlap_s,
        phrases=told,
        final=window.final,
    )


def text_of(segments: Iterable[Segment]) -> str:
    """The transcript of a whole sound; words in the overlap of two segments are told once."""
    text, before = "", ""
    for segment in segments:
        # What nobody said before the overlap cannot be said again in it.
        text = join_texts(text, segment.text, segment.overlap_s > 0 and bool(before))
        before = segment.text
    return text


def letters_of(transcriber: CtcTranscriber, pcm: Pcm, *, beams: int) -> str:
    """What a model with CTC writes.

    Args:
        transcriber: The package.
        pcm: ``[samples]`` of 16 kHz.
        beams: 1 takes the likeliest letter of every position.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on a graph, or a score is not finite.
    """
    import numpy as np

    letters = transcriber.letters
    scores = run_graph(transcriber.model, features_of(transcriber, pcm))["logits"][0]
    if not np.isfinite(scores).all():
        raise UnsupportedModelError(
            "the graph 'model' gives scores that are not finite", "validate the package on this device"
        )
    if beams == 1:
        return letters.text(likeliest(scores, letters.blank))
    return letters.text(prefix_beam_search(log_softmax(scores), letters.blank, beams))


def generate(
    transcriber: Transcriber, pcm: Pcm, *, beams: int, max_tokens: int | None = None, times: bool = False
) -> list[int]:
    """Tokens of a window's transcript.

    Args:
        transcriber: The package.
        pcm: ``[samples]`` of 16 kHz, at most a window.
        beams: 1 is greedy.
        max_tokens: Most tokens, if that is fewer than the package allows.
        times: Tell times between the words, where the model knows them.

    Returns:
        Tokens without the start and the prompt, up to and with the one that ended it; none where nobody
        speaks.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on a graph.
    """
    generation = (transcriber.timed if times else None) or transcriber.generation
    prompt = len(generation.prompt_ids)
    max_tokens = None if max_tokens is None else max_tokens + prompt
    decoder = Listening(transcriber.decoder, generation)
    transcriber.decoder.read(features_of(transcriber, pcm))
    if beams == 1:
        (found,) = greedy(decoder, 1, generation, max_tokens)
    else:
        (found,) = beam_search(decoder, 1, generation, beams, max_tokens)
    return [] if decoder.nobody_speaks(found) else found[prompt:]


def features_of(transcriber: AnyTranscriber, pcm: Pcm) -> dict[str, NDArray[Any]]:
    """What the next graph reads: of a whole window, filled with silence, or of as much sound as there is.

    Args:
        transcriber: The package.
        pcm: ``[samples]`` of 16 kHz, at most a window.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on the graph.
    """
    whole = isinstance(transcriber, Transcriber) and transcriber.reads == SPEECH[0]
    padded = padded_window(pcm, transcriber.window if whole else max(len(pcm), SHORTEST))
    return dict(run_graph(transcriber.features, {"pcm": padded}))
