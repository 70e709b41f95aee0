"""Packages that embed sentences: vectors, judged by the dense model's vectors and by retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.examples import AnyExample, Example, spread
from edgelr.kinds.cosines import COMPARED, cosines
from edgelr.kinds.kind import Judge
from edgelr.kinds.outputs import REFERENCE
from edgelr.runtime.answers import check_finite, vectors_of
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.examples import EXAMPLES, folder_examples
from edgelr.runtime.package import model_path, session_entries
from edgelr.runtime.text import INDEX, batch_tokens, embed, embedding, package_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from edgelr.device.schema import Device
    from edgelr.kinds.kind import Feeds, Sessions
    from edgelr.metrics.scores import Scores
    from edgelr.progress import Progress

    Vectors = NDArray[np.floating]

EXAMPLE = Example
OPTIONS = ("top", "vectors")
UNIT = "tokens"
RUNS = 2  # a query and a passage

# Rounding wants many: of a MiniLM in 4 bits, the cosine to fp32 is 0.973 without any, 0.988 with 46, 0.991
# with 180.
_TEXTS = 256


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Search with every input, or print its vector; see ``use_search.py``."""
    from edgelr.use_search import search

    return search(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """Vectors of queries and passages, one text a call."""
    found = [each for each in examples if isinstance(each, Example)]
    pairs = [(each.query, each) for each in found if each.query is not None]
    if len(pairs) != len(found):
        raise DamagedArtifactError(f"{folder / EXAMPLES}: an example has no query to find it by")
    return Judge(
        answer=lambda package, sessions, each: vectors_of(package, sessions["model"], pairs, each),
        score=_score,
    )


def _score(own: tuple[Vectors, Vectors], dense: tuple[Vectors, Vectors]) -> dict[str, Scores]:
    from edgelr.metrics.retrieval import sentence_embedding_scores

    if own[0].shape[1] != dense[0].shape[1]:
        raise DamagedArtifactError(
            f"vectors have {own[0].shape[1]} numbers, those of the dense model {dense[0].shape[1]}",
            "get or build the package again",
        )
    return sentence_embedding_scores(*own, *dense)


def dense_answers(package: Package, count: int) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """The dense model's vectors of queries and of passages."""
    path = package.folder / REFERENCE
    arrays = read_arrays(path, ["dense_queries", "dense_passages"])
    queries, passages = arrays["dense_queries"], arrays["dense_passages"]
    if queries.ndim != 2 or queries.shape != passages.shape or len(queries) != count:
        raise DamagedArtifactError(
            f"{path}: dense outputs {list(queries.shape)}, {list(passages.shape)} do not fit {count} examples"
        )
    return queries, passages


def parity(package: Package, sessions: Sessions) -> float:
    """Largest difference from torch's vectors on the stored cases.

    The cases have several lengths, padding and more than one text a batch: what single texts never exercise.
    For a quantized variant the difference is mostly that of quantization.
    """
    import numpy as np

    arrays = read_arrays(package.folder / REFERENCE)
    names = ("input_ids", "attention_mask")
    largest = 0.0
    for key in sorted(name for name in arrays if name.startswith("embedding.")):
        case = key.removeprefix("embedding.")
        if any(f"{name}.{case}" not in arrays for name in names):
            raise DamagedArtifactError(f"{package.folder / REFERENCE}: parity case {case} is incomplete")
        got = embedding(sessions["model"], {name: arrays[f"{name}.{case}"] for name in names})
        check_finite(got, package)
        if got.shape != arrays[key].shape:
            raise DamagedArtifactError(
                f"{package.folder / REFERENCE}: {key} has shape {list(arrays[key].shape)}"
            )
        largest = max(largest, float(np.abs(got - arrays[key]).max()))
    return largest


def notes() -> tuple[str, ...]:
    """Nothing: names of its metrics say what they are."""
    return ()


def feeds(package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
    """Tokens of some queries and passages."""
    few = spread([each for each in examples if isinstance(each, Example)], _TEXTS // 2)
    texts = [text for each in few for text in (each.query, each.passage) if text]
    tokenizer = package_tokenizer(package)
    return {"model": [batch_tokens(tokenizer, [text]) for text in texts]}


def compare(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """Vectors of the package's own passages, whose index is made anew; see ``Kind.compare``."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.runtime.arrays import write_arrays

    device = load_devices()["cpu-1t"]
    fp32 = model_path(package)
    examples = folder_examples(package.folder, Example)
    few = spread(examples, COMPARED)
    tokenizer = package_tokenizer(package)
    with progress.bar("comparing with fp32", len(examples) + len(few)) as advance:
        texts = [example.passage for example in examples]
        small = embed(open_session(folder / fp32.name, device), tokenizer, texts, advance)
        dense = embed(open_session(fp32, device), tokenizer, [each.passage for each in few], advance)
    rows = {example.id: row for example, row in zip(examples, small, strict=True)}
    found = cosines(dense, np.stack([rows[each.id] for each in few]), fp32.name)
    write_arrays(folder / INDEX, {"passages": small.astype(np.float16)})
    return {"model": float(found.mean())}


def timed(package: Package, device: Device) -> dict[str, Any]:
    """One run of the graph."""
    return {"model": str(model_path(package)), "entries": session_entries(package, device.name)}


def timed_inputs(package: Package, length: int) -> dict[str, Any]:
    """One text of exactly ``length`` tokens, made of the package's passages."""
    texts = [example.passage for example in folder_examples(package.folder, Example)]
    return tokens_of_length(package_tokenizer(package), texts, length)


def tokens_of_length(tokenizer: Tokenizer, texts: Sequence[str], tokens: int) -> dict[str, Any]:
    """One input of exactly ``tokens`` tokens: ``texts`` one after the other, repeated where they end.

    Args:
        tokenizer: As loaded by ``runtime/text.py``.
        texts: At least one.
        tokens: Length.

    Returns:
        ``input_ids`` and ``attention_mask``, both nested lists ``[1, tokens]``.
    """
    joined: list[int] = []
    for text in texts:
        joined += batch_tokens(tokenizer, [text])["input_ids"][0].tolist()
        if len(joined) >= tokens:
            break
    ids = [joined[place % len(joined)] for place in range(tokens)]
    return {"input_ids": [ids], "attention_mask": [[1] * tokens]}
