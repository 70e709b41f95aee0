"""The tokenizers of Marian and M2M100, which have no ``tokenizer.json``: SentencePiece with other ids.

Ids and texts are those of ``MarianTokenizer`` and ``M2M100Tokenizer`` of transformers 5.23.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifact_files import read_json
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.tokens import AGAIN, CONFIG, Codec

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

MARIAN_SOURCE, MARIAN_TARGET = "source.spm", "target.spm"
MARIAN_TARGET_VOCABULARY = "target_vocab.json"
M2M_PIECES = "sentencepiece.bpe.model"
VOCABULARY = "vocab.json"
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_MARIAN_LANGUAGE = re.compile(r">>.*?<<", re.DOTALL)

# The languages of the two families of M2M100, in the order of their tokens, which no file says.
_LANGUAGES = {
    "m2m100": (
        "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he "
        "hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no "
        "ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo "
        "zh zu"
    ),
    "wmt21": "en ha is ja cs ru zh de",
}


class _PieceCodec(Codec):
    """What both have in common: special tokens in the text are one token each, all else is pieces."""

    def __init__(self, folder: Path, limit: int, config: Mapping[str, Any], usual: Sequence[str]) -> None:
        super().__init__(limit)
        if config.get("sp_model_kwargs"):
            raise UnsupportedModelError(
                f"{folder / CONFIG}: sp_model_kwargs are set", "take them out, and build the package again"
            )
        self._folder = folder
        self._ids = _vocabulary(folder / VOCABULARY)
        self._unknown = self._id_of("unk_token", config, "<unk>")
        self._end = self._id_of("eos_token", config, "</s>")
        self._added = _added_tokens(folder / CONFIG, config) or {
            token: (self._ids[token], True) for token in usual if token in self._ids
        }

    def _id_of(self, name: str, config: Mapping[str, Any], usual: str) -> int:
        token = config.get(name, usual)
        token = token.get("content") if isinstance(token, dict) else token
        if token not in self._ids:
            raise DamagedArtifactError(
                f"{self._folder / VOCABULARY} has no {name} {token!r}: it is not this tokenizer's", AGAIN
            )
        return self._ids[token]

    def _parts(self, text: str) -> list[int | str]:
        """The ids of special tokens, and the texts between them."""
        if not self._added:
            return [text]
        longest_first = sorted(self._added, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
        return [self._added[part][0] if place % 2 else part for place, part in enumerate(parts) if part]

    def _added_ids(self, *, special: bool = False) -> set[int]:
        return {index for index, is_special in self._added.values() if is_special or not special}

    def _pieces(self, processor: SentencePieceProcessor, text: str) -> list[int]:
        return [self._ids.get(piece, self._unknown) for piece in processor.encode(text, out_type=str)]


class MarianCodec(_PieceCodec):
    """``source.spm``, ``target.spm`` and ``vocab.json``, with ``target_vocab.json`` where there are two.

    Punctuation is not normalized: transformers does that only where ``sacremoses`` is installed, which it
    does not require; without it, it warns and takes the text as it is. So it is done here.

    Args:
        folder: Holds the files.
        limit: Most source tokens.
        config: ``tokenizer_config.json``, or nothing.
    """

    def __init__(self, folder: Path, limit: int, config: Mapping[str, Any]) -> None:
        super().__init__(folder, limit, config, ("</s>", "<unk>", "<pad>"))
        self._source = _processor(folder / MARIAN_SOURCE)
        self._target = _processor(folder / MARIAN_TARGET)
        self._separate = config.get("separate_vocabs") is True
        self._target_ids = _vocabulary(folder / MARIAN_TARGET_VOCABULARY) if self._separate else self._ids
        self._tokens = _by_id(self._target_ids, self._added)
        self._skipped = self._added_ids(special=True)

    def encode(self, text: str) -> list[int]:
        """Source tokens of a text, special tokens included; as many as it has."""
        ids: list[int] = []
        for part in self._parts(text):
            if isinstance(part, int):
                ids.append(part)
                continue
            found = _MARIAN_LANGUAGE.match(part)
            language = found.group() if found else ""
            if language:
                ids.append(self._ids.get(language, self._unknown))
            ids += self._pieces(self._source, part[len(language) :])
        return [*ids, self._end]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of target tokens; special tokens are left out."""
        # With one vocabulary for both, transformers decodes by the source's rules; they are alike.
        processor = self._target if self._separate else self._source
        tokens = [self._token(index) for index in ids if index not in self._skipped]
        text: str = processor.decode_pieces([token for token in tokens if token])
        return text.replace(_SPACE, " ").strip()

    def sizes(self) -> tuple[int, int]:
        """One more than the largest source token, and than the largest target token."""
        added = max(self._added_ids(), default=-1)
        return max(added, *self._ids.values()) + 1, max(added, *self._target_ids.values()) + 1

    def lead(self, text: str) -> str:
        """The target language that a text for a multilingual model begins with: ``>>fra<<``."""
        found = _MARIAN_LANGUAGE.match(text)
        return found.group() if found and found.group() in self._ids else ""

    def stranger(self) -> str | None:
        """The SentencePiece file most of whose pieces are not in its vocabulary, or None."""
        for file, processor, ids in (
            (MARIAN_SOURCE, self._source, self._ids),
            (MARIAN_TARGET, self._target, self._target_ids),
        ):
            if _mostly_missing(processor, ids):
                return f"most pieces of {file} are not in its vocabulary"
        return None

    def _token(self, index: int) -> str:
        token = self._tokens.get(index)
        if token is not None:
            return token
        return self._target.id_to_piece(index) if index < self._target.get_piece_size() else ""


class M2MCodec(_PieceCodec):
    """``sentencepiece.bpe.model`` and ``vocab.json``; the tokens of languages come after the vocabulary.

    Unlike in transformers, language tokens are special even if ``tokenizer_config.json`` does not list them:
    else the first word of every translation would be the token of its language.

    Args:
        folder: Holds the files.
        limit: Most source tokens.
        config: ``tokenizer_config.json``, or nothing.
        source: The source language, such as ``en``; the configuration's when None.
    """

    def __init__(self, folder: Path, limit: int, config: Mapping[str, Any], source: int | str | None) -> None:
        super().__init__(folder, limit, config, ("<s>", "<pad>", "</s>", "<unk>"))
        self._processor = _processor(folder / M2M_PIECES)
        codes = _LANGUAGES.get(config.get("language_codes") or "m2m100", "").split()
        languages = {f"__{code}__": len(self._ids) + place for place, code in enumerate(codes)}
        language = config.get("src_lang") if source is None else source
        if f"__{language}__" not in languages:
            raise DamagedArtifactError(
                f"{folder / 'package.json'}: settings.source_language is {language!r}, "
                f"which is none of this tokenizer's: {', '.join(codes)}",
                AGAIN,
            )
        self._first = languages[f"__{language}__"]
        self._largest = max(*self._ids.values(), *languages.values(), *self._added_ids())
        self._tokens = _by_id(self._ids, self._added)
        self._skipped = self._added_ids(special=True) | {*languages.values()}

    def encode(self, text: str) -> list[int]:
        """Source tokens of a text, special tokens included; as many as it has."""
        ids = [self._first]
        for part in self._parts(text):
            ids += [part] if isinstance(part, int) else self._pieces(self._processor, part)
        return [*ids, self._end]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of target tokens; special tokens, and those that are none, are left out."""
        tokens = [self._tokens.get(index, "") for index in ids if index not in self._skipped]
        text: str = self._processor.decode([token for token in tokens if token])
        return text.strip()

    def sizes(self) -> tuple[int, int]:
        """One more than the largest token, twice: source and target share them."""
        return self._largest + 1, self._largest + 1

    def stranger(self) -> str | None:
        """Says so when most pieces are not in the vocabulary."""
        if _mostly_missing(self._processor, self._ids):
            return f"most pieces of {M2M_PIECES} are not in {VOCABULARY}"
        return None


def _processor(path: Path) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    try:
        processor = SentencePieceProcessor(model_proto=path.read_bytes() or b"\0")
    except (OSError, RuntimeError) as error:
        raise DamagedArtifactError(f"{path} is not a SentencePiece model: {error}", AGAIN) from error
    return processor


def _vocabulary(path: Path) -> dict[str, int]:
    ids = read_json(path)
    if not isinstance(ids, dict) or not ids or not all(type(index) is int for index in ids.values()):
        raise DamagedArtifactError(f"{path} is not token -> id", AGAIN)
    return ids


def _added_tokens(path: Path, config: Mapping[str, Any]) -> dict[str, tuple[int, bool]]:
    """Token -> its id, and whether it is special."""
    try:
        rows = {int(index): dict(row) for index, row in config.get("added_tokens_decoder", {}).items()}
        added = {str(row["content"]): (index, row["special"] is True) for index, row in rows.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedArtifactError(f"{path}: added_tokens_decoder is malformed: {error}", AGAIN) from error
    apart = ("lstrip", "rstrip", "single_word")
    odd = [row["content"] for row in rows.values() if any(row.get(name) for name in apart)]
    if odd:
        raise UnsupportedModelError(
            f"{path}: the added token {odd[0]!r} takes the spaces beside it, which a package cannot do",
            "set its lstrip, rstrip and single_word to false, and build the package again",
        )
    return added


def _by_id(ids: Mapping[str, int], added: Mapping[str, tuple[int, bool]]) -> dict[int, str]:
    tokens = {index: token for token, index in ids.items()}
    return tokens | {index: token for token, (index, _) in added.items()}


def _mostly_missing(processor: SentencePieceProcessor, ids: Mapping[str, int]) -> bool:
    pieces = processor.id_to_piece(list(range(processor.get_piece_size())))
    return 2 * sum(piece in ids for piece in pieces) < len(pieces)
