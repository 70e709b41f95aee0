"""The tokenizers of translation packages, without transformers: text to tokens, and tokens to text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifact_files import read_json
from edgelr.errors import DamagedArtifactError
from edgelr.runtime.text import load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
AGAIN = "get or build the package again"

# What clean_up_tokenization() of transformers replaces, in this order.
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


class Codec(ABC):
    """The tokenizer of a translation package.

    Attributes:
        limit: Most source tokens that the encoder takes, special tokens included.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Source tokens of a text, special tokens included; as many as it has."""

    def encode_plain(self, text: str) -> list[int]:
        """Tokens of a text alone, without special ones, where the tokenizer can leave them out."""
        return self.encode(text)

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of target tokens; special tokens are left out."""

    @abstractmethod
    def sizes(self) -> tuple[int, int]:
        """One more than the largest source token, and than the largest target token."""

    def lead(self, text: str) -> str:
        """The beginning of a text that each of its pieces needs, too, such as a target language."""
        return ""

    def stranger(self) -> str | None:
        """What does not belong together in the tokenizer, or None."""
        return None

    def fits(self, text: str) -> bool:
        """Whether the encoder takes a text whole."""
        return len(self.encode(text)) <= self.limit

    def cut(self, ids: Sequence[int]) -> list[int]:
        """At most ``limit`` tokens: the first ones and the one that ends the text."""
        return list(ids) if len(ids) <= self.limit else [*ids[: self.limit - 1], ids[-1]]


def open_codec(folder: Path, settings: Mapping[str, int | str]) -> Codec:
    """Open the tokenizer of a package: ``tokenizer.json``, or the SentencePiece files of Marian or M2M100.

    Args:
        folder: The package; ``tokenizer_config.json``, where there is one, is as transformers saves it.
        settings: ``max_tokens``, the most source tokens; ``source_language`` for M2M100, where the
            configuration does not have ``src_lang``.

    Raises:
        DamagedArtifactError: A file is missing or unusable, or a setting is.
        UnsupportedModelError: The tokenizer does something that only transformers can do.
    """
    limit = settings.get("max_tokens")
    if not isinstance(limit, int) or limit < 1:
        raise DamagedArtifactError(
            f"{folder / 'package.json'}: settings.max_tokens is {limit!r}, not a count", AGAIN
        )
    config = _config(folder)
    if (folder / TOKENIZER).is_file():
        return JsonCodec(folder / TOKENIZER, limit, config)
    from edgelr.runtime.sentence_pieces import M2M_PIECES, MARIAN_SOURCE, M2MCodec, MarianCodec

    if (folder / MARIAN_SOURCE).is_file():
        return MarianCodec(folder, limit, config)
    if (folder / M2M_PIECES).is_file():
        return M2MCodec(folder, limit, config, settings.get("source_language"))
    raise DamagedArtifactError(
        f"{folder} has no tokenizer: neither {TOKENIZER} nor {MARIAN_SOURCE} nor {M2M_PIECES}", AGAIN
    )


def check_codec(codec: Codec, vocabulary: int, source_vocabulary: int | None = None) -> None:
    """Check that a tokenizer can be that of a model: no token beyond its tables, no files of another one.

    Source and target SentencePiece files that were exchanged are found where the two languages have
    vocabularies of their own; in one common vocabulary every piece of both has its place.

    Args:
        codec: The tokenizer.
        vocabulary: Size of the model's logits.
        source_vocabulary: Size of the encoder's table, where it is another one.

    Raises:
        DamagedArtifactError: They do not belong together.
    """
    source, target = codec.sizes()
    allowed = vocabulary if source_vocabulary is None else source_vocabulary
    for what, size, limit in (("source", source, allowed), ("target", target, vocabulary)):
        if size > limit:
            raise DamagedArtifactError(
                f"the tokenizer is not this model's: it has {what} tokens up to {size - 1}, "
                f"and the model's are below {limit}",
                AGAIN,
            )
    if found := codec.stranger():
        raise DamagedArtifactError(f"the tokenizer's files are mixed up: {found}", AGAIN)


class JsonCodec(Codec):
    """A ``tokenizer.json``, with the special tokens of its own post-processor (T5, mBART, NLLB).

    Args:
        path: The file.
        limit: Most source tokens.
        config: ``tokenizer_config.json``, or nothing.
    """

    def __init__(self, path: Path, limit: int, config: Mapping[str, Any]) -> None:
        super().__init__(limit)
        self._tokenizer: Tokenizer = load_tokenizer(path, limit)
        self._tokenizer.no_truncation()  # a long text is cut into pieces, not cut off
        # As in transformers: a BPE tokenizer has its spaces right already.
        wanted = config.get("clean_up_tokenization_spaces") is True
        self._clean = wanted and type(self._tokenizer.model).__name__ != "BPE"

    def encode(self, text: str) -> list[int]:
        """Source tokens of a text, special tokens included; as many as it has."""
        return list(self._tokenizer.encode(text).ids)

    def encode_plain(self, text: str) -> list[int]:
        """Tokens of a text alone, without special ones."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of target tokens; special tokens are left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        if self._clean:
            for before, after in _CLEANED:
                text = text.replace(before, after)
        return text

    def sizes(self) -> tuple[int, int]:
        """One more than the largest token, twice: source and target share them."""
        size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        return size, size


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    document = read_json(path) if path.is_file() else {}
    if not isinstance(document, dict):
        raise DamagedArtifactError(f"{path} is not an object", AGAIN)
    return document
