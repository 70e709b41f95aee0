"""Calibration data: what the graphs of a package are fed with, made of texts, or given as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgelr.artifacts import Graph, Package, Source
from edgelr.errors import DataError, UnsupportedModelError
from edgelr.examples import AnyExample, Example, Translation, Utterance, spread
from edgelr.quantize.sources import sound_sources, text_sources
from edgelr.quantize.static import Feeds
from edgelr.runtime.decoder_graph import TEXT, heard_by

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Rounding wants many: of a MiniLM in 4 bits, the cosine to fp32 is 0.973 without any, 0.988 with 46, 0.991
# with 180.
_TEXTS = 256
_SOURCES, _STEPS = 16, 8  # of translations: every step has the caches of all layers with it
_WINDOWS = 64  # of a model with CTC, which has no steps
_KINDS: dict[str, type[AnyExample]] = {
    "translation": Translation,
    "automatic-speech-recognition": Utterance,
}
_NUMPY = {"float": "float32", "float16": "float16", "double": "float64"}


@dataclass(frozen=True, kw_only=True)
class Data:
    """What quantization may look at, besides the package: never the examples that it is judged by.

    Attributes:
        feeds: By role, what each graph is fed with, a call an entry.
        validation: What accuracy control measures the drop on.
        sounds: What the paths of their sounds are relative to.
    """

    feeds: Mapping[str, Sequence[Feeds]]
    validation: Sequence[AnyExample] = ()
    sounds: Path | None = None


def data_of_source(package: Package, source: Source) -> Data:
    """The calibration and validation splits that a package was built with.

    Args:
        package: In fp32.
        source: Its data.

    Raises:
        UnsupportedModelError: The task is unknown.
    """
    kind, sounds = _KINDS.get(package.task, Example), source.folder / "data"
    feeds = feeds_of(package, source.examples("calibration", kind), sounds)
    return Data(feeds=feeds, validation=source.examples("validation", kind), sounds=sounds)


def data_of_package(package: Package) -> Data:
    """The package's own examples, for want of others: what is calibrated on them is also tested on them.

    Args:
        package: In fp32.

    Raises:
        DamagedArtifactError: The examples are unusable.
        UnsupportedModelError: The task is unknown.
    """
    from edgelr.runtime.examples import folder_examples

    examples = folder_examples(package.folder, _KINDS.get(package.task, Example))
    feeds = feeds_of(package, examples, package.folder)
    return Data(feeds=feeds, validation=examples, sounds=package.folder)


def feeds_of(package: Package, examples: Sequence[AnyExample], sounds: Path) -> dict[str, list[Feeds]]:
    """What the graphs of a package are fed with for some texts or sounds, one a call.

    Args:
        package: The fp32 package. A decoder is fed with what its own encoder gives, and with its own tokens.
        examples: Of the calibration split; some of them, evenly over their order, are taken.
        sounds: What the paths of sounds are relative to.

    Returns:
        By role.

    Raises:
        UnsupportedModelError: The task is unknown.
    """
    match package.task:
        case "sentence-embedding":
            from edgelr.runtime.text import batch_tokens, package_tokenizer

            few = spread([each for each in examples if isinstance(each, Example)], _TEXTS // 2)
            texts = [text for each in few for text in (each.query, each.passage) if text]
            tokenizer = package_tokenizer(package)
            return {"model": [batch_tokens(tokenizer, [text]) for text in texts]}
        case "translation":
            few_pairs = spread([each for each in examples if isinstance(each, Translation)], _SOURCES)
            return _step_feeds(package, text_sources(package, few_pairs), TEXT)
        case "automatic-speech-recognition":
            heard = [each for each in examples if isinstance(each, Utterance)]
            if "model" in package.graphs:
                return {"model": list(sound_sources(package, spread(heard, _WINDOWS), sounds))}
            windows = sound_sources(package, spread(heard, _SOURCES), sounds)
            reads = heard_by(entry.name for entry in package.graphs["encoder"].inputs)
            return _step_feeds(package, windows, reads)
        case _:
            raise UnsupportedModelError(
                f"{package.folder}: the task {package.task!r} is unknown", "update edgelr"
            )


def _step_feeds(package: Package, sources: Sequence[Feeds], reads: tuple[str, ...]) -> dict[str, list[Feeds]]:
    """Of an encoder and a decoder: the sources, and the first steps that the decoder takes on each."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.runtime.decoder_graph import GraphDecoder
    from edgelr.runtime.generation import read_generation
    from edgelr.runtime.package import model_path

    device = load_devices()["cpu-1t"]
    generation = read_generation(package.folder)
    encoder, graph = (open_session(model_path(package, role), device) for role in ("encoder", "decoder"))
    decoder = GraphDecoder(encoder, graph, reads)
    found: dict[str, list[Feeds]] = {"encoder": list(sources), "decoder": []}
    for source in sources:
        decoder.read(source)
        decoder.start(1)
        token = np.array([generation.decoder_start_token_id], np.int64)
        told = list(generation.prompt_ids)
        for step in range(_STEPS + len(told)):
            found["decoder"].append(decoder.feeds(token))
            chosen = decoder.step(token).argmax(axis=1)
            token = np.array([told[step]], np.int64) if step < len(told) else chosen
    return found


def read_feeds(path: Path, graph: Graph) -> list[Feeds]:
    """Read calibration data of a graph.

    Args:
        path: An ``.npz`` file. An array is called as its input, ``input_ids``, or, of several calls, with a
            number behind it, ``input_ids.0``, as in a package's ``reference.npz``.
        graph: What it is for.

    Raises:
        DamagedArtifactError: The file is missing or is no ``.npz``.
        DataError: It does not fit the graph.
    """
    from edgelr.runtime.arrays import read_arrays

    calls: dict[str, dict[str, NDArray[np.generic]]] = {}
    names = {entry.name for entry in graph.inputs}
    for key, array in read_arrays(path).items():
        stem, _, number = key.rpartition(".")
        name, call = (stem, number) if key not in names and number.isdecimal() else (key, "")
        if name in names:  # other arrays are not inputs: a reference.npz has outputs as well
            calls.setdefault(call, {})[name] = array
    feeds: list[Feeds] = list(calls.values())
    check_feeds(feeds, graph, str(path))
    return feeds


def check_feeds(feeds: Sequence[Feeds], graph: Graph, where: str) -> None:
    """Make sure that a graph can be run on calibration data, and that it consists of numbers.

    Args:
        feeds: A call an entry.
        graph: What it is for.
        where: What an error names.

    Raises:
        DataError: There is none, or an array is missing, of another type or shape, or has NaN in it.
    """
    import numpy as np

    if not feeds:
        wanted = ", ".join(entry.name for entry in graph.inputs)
        raise DataError(f"{where}: no calibration data for {graph.file}", f"it needs arrays named {wanted}")
    for number, given in enumerate(feeds):
        for entry in graph.inputs:
            if entry.name not in given:
                raise DataError(
                    f"{where}: call {number} has no array '{entry.name}'", f"it is an input of {graph.file}"
                )
            array = given[entry.name]
            kind = _NUMPY.get(entry.dtype, entry.dtype)
            fixed = [size for size in zip(entry.shape, array.shape, strict=False) if isinstance(size[0], int)]
            fits = array.ndim == len(entry.shape) and all(size == found for size, found in fixed)
            if array.dtype != kind or not fits:
                raise DataError(
                    f"{where}: '{entry.name}' of call {number} is {array.dtype} {list(array.shape)}, "
                    f"{graph.file} wants {kind} {list(entry.shape)}",
                    "give one array a call, with the batch as its first axis",
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise DataError(
                    f"{where}: '{entry.name}' of call {number} has NaN or infinity in it",
                    "leave that call out",
                )
