"""Texts in, vectors or the best matching passages out: the light face of the task ``sentence-embedding``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.examples import Example
from edgelr.runtime.arrays import read_arrays, write_arrays
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path, session_entries
from edgelr.runtime.shapes import fixed_sizes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

INDEX = "index.npz"
_PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<PAD>", "<|endoftext|>")


@dataclass(frozen=True, kw_only=True)
class Match:
    """A passage found: its id, the cosine of its vector with the query's, and the text."""

    id: str
    score: float
    passage: str


def load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """Read a ``tokenizer.json``.

    Args:
        path: The file.
        max_tokens: Longer texts are cut here, special tokens included.

    Raises:
        DamagedArtifactError: The file is missing or is no tokenizer.
    """
    try:
        document = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(
            f"{path} cannot be read: {error}", "get or build the package again"
        ) from error
    return parse_tokenizer(document, max_tokens, origin=str(path))


def parse_tokenizer(document: str, max_tokens: int, *, origin: str = "the tokenizer") -> Tokenizer:
    """Make a tokenizer that cuts at ``max_tokens`` and does not pad.

    Args:
        document: The content of a ``tokenizer.json``.
        max_tokens: Longer texts are cut here, special tokens included.
        origin: What an error names.

    Raises:
        DamagedArtifactError: The document is no tokenizer.
    """
    from tokenizers import Tokenizer

    with _TokenizerFaults(origin):
        tokenizer = Tokenizer.from_str(document)
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
    return tokenizer


class _TokenizerFaults:
    """The library raises the bare class ``Exception`` for a file it cannot use; others are bugs and pass."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is Exception:
            raise DamagedArtifactError(
                f"{self._origin} is not a usable tokenizer: {error}", "get the model or the package again"
            ) from error


def batch_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Turn texts into the graph's inputs, padded to the longest of them.

    A text without a single token (an empty one, where the tokenizer adds no special tokens) becomes one pad
    token that counts, so that its vector is finite.

    Args:
        tokenizer: As loaded by this module.
        texts: At least one.

    Returns:
        ``input_ids`` and ``attention_mask``, both ``[batch, tokens]``.
    """
    import numpy as np

    pad = pad_id(tokenizer)
    rows = [encoding.ids or [pad] for encoding in tokenizer.encode_batch(list(texts))]
    ids = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the tokenizer's pad token by its usual names; 0 where there is none: padding is masked.

    Args:
        tokenizer: Any tokenizer.
    """
    ids = (tokenizer.token_to_id(token) for token in _PAD_TOKENS)
    return next((found for found in ids if found is not None), 0)


def embed(
    session: InferenceSession,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    each: Callable[[], object] | None = None,
) -> NDArray[np.float32]:
    """Embed texts one a call: what an app does, and dynamic int8 scales depend on the rest of a batch.

    Args:
        session: The package's graph, open.
        tokenizer: The package's tokenizer.
        texts: What to embed; at least one.
        each: Called after every text, to show how far it is.

    Returns:
        ``[n, dim]``, in the order of ``texts``.

    Raises:
        UnsupportedModelError: The graph does not fit the task.
    """
    import numpy as np

    rows = []
    for text in texts:
        rows.append(embedding(session, batch_tokens(tokenizer, [text]))[0])
        if each is not None:
            each()
    return np.stack(rows)


def embedding(session: InferenceSession, feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """Run the graph on a batch.

    Args:
        session: The package's graph, open.
        feeds: ``input_ids`` and ``attention_mask``, ``[batch, tokens]``.

    Returns:
        ``[batch, dim]``.

    Raises:
        UnsupportedModelError: The graph has no output ``embedding`` ``[batch, dim]``, or fails.
    """
    import numpy as np

    result = run_graph(session, feeds).get("embedding")
    if result is None or result.ndim != 2 or len(result) != len(feeds["input_ids"]):
        raise UnsupportedModelError(
            "the graph has no output 'embedding' [batch, dim]", "export the model again"
        )
    return result.astype(np.float32, copy=False)


def open_text_package(package: Package, device: Device) -> tuple[InferenceSession, Tokenizer]:
    """Open the graph, with the settings measured as best for the device, and the tokenizer.

    Args:
        package: As opened by ``open_package``.
        device: Where it runs.

    Raises:
        DamagedArtifactError: The graph, the tokenizer or a setting is unusable.
        MissingRequirementError: The device's provider is not here.
    """
    session = open_session(
        model_path(package), device, entries=session_entries(package, device.name), sizes=fixed_sizes(package)
    )
    return session, package_tokenizer(package)


def package_tokenizer(package: Package) -> Tokenizer:
    """The package's tokenizer, cutting at its ``max_tokens``.

    Args:
        package: As opened by ``open_package``.

    Raises:
        DamagedArtifactError: The tokenizer or the setting is unusable.
    """
    limit = package.settings.get("max_tokens")
    if not isinstance(limit, int) or limit < 1:
        raise DamagedArtifactError(
            f"{package.folder / 'package.json'}: settings.max_tokens is {limit!r}, not a count"
        )
    return load_tokenizer(package.folder / "tokenizer.json", limit)


def write_index(
    folder: Path, *, max_tokens: int, device: Device | None = None, each: Callable[[], object] | None = None
) -> None:
    """Embed the passages of a package to be, and write ``index.npz`` next to them, before it is sealed.

    Args:
        folder: Holds ``model.onnx``, ``tokenizer.json`` and ``examples.jsonl``.
        max_tokens: Longer passages are cut here.
        device: Where to run the graph; ``cpu-1t`` when None.
        each: Called after every passage, to show how far it is.

    Raises:
        DamagedArtifactError: A file is unusable.
    """
    import numpy as np

    session = open_session(folder / "model.onnx", device or _one_thread(), entries={})
    tokenizer = load_tokenizer(folder / "tokenizer.json", max_tokens)
    passages = [example.passage for example in folder_examples(folder, Example)]
    vectors = embed(session, tokenizer, passages, each)
    write_arrays(folder / INDEX, {"passages": vectors.astype(np.float16)})


def search(package: Package, query: str, top: int = 5, *, device: Device | None = None) -> tuple[Match, ...]:
    """Find the passages of the package that match a query best.

    Args:
        package: As opened by ``open_package``.
        query: Any text.
        top: How many to return, at most.
        device: Where to run the graph; ``cpu-1t`` when None.

    Raises:
        DamagedArtifactError: A file of the package is unusable.
        MissingRequirementError: The device's provider is not here.
    """
    session, tokenizer = open_text_package(package, device or _one_thread())
    return nearest(package, embed(session, tokenizer, [query])[0], top)


def nearest(package: Package, vector: NDArray[np.float32], top: int = 5) -> tuple[Match, ...]:
    """The passages of the package whose vectors are most similar to one, best first.

    Args:
        package: As opened by ``open_package``.
        vector: ``[dim]``, by this package's own graph.
        top: How many to return, at most.

    Raises:
        DamagedArtifactError: The index does not belong to the passages.
    """
    from edgelr.metrics.retrieval import cosine_similarity, top_ranked

    examples = folder_examples(package.folder, Example)
    passages = read_arrays(package.folder / INDEX, ["passages"])["passages"]
    if passages.shape != (len(examples), len(vector)):
        raise DamagedArtifactError(
            f"{package.folder / INDEX} holds {list(passages.shape)}, not [{len(examples)}, {len(vector)}]",
            "get or build the package again",
        )
    best = top_ranked(vector[None], passages, top)[0]
    scores = cosine_similarity(passages[best], vector[None].repeat(len(best), axis=0))
    return tuple(
        Match(id=examples[index].id, score=float(score), passage=examples[index].passage)
        for index, score in zip(best, scores, strict=True)
    )


def _one_thread() -> Device:
    return load_devices()["cpu-1t"]
