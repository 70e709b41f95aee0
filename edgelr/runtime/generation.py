"""How a package generates text: ``generation.json``, and what a transformers generation config says in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from edgelr.artifact_files import read_json, write_json
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.typed import AtLeast, WrongTypeError, typed

GENERATION = "generation.json"

_Token = Annotated[int, AtLeast(0)]
_Count = Annotated[int, AtLeast(0)]

# What generate() of transformers does when a config sets no length: 20 tokens after the start token.
_DEFAULT_MAX_LENGTH = 21


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How target tokens are chosen; the fields mean what they mean in a transformers generation config.

    Attributes:
        decoder_start_token_id: What the decoder is given first.
        eos_token_id: Tokens that end a sequence; may be none.
        pad_token_id: What an ended sequence of a batch goes on with.
        max_length: Most target tokens, the start token included.
        num_beams: 1 is greedy.
        length_penalty: A finished beam's score is divided by its length to this power.
        early_stopping: Stop as soon as there are as many finished beams as beams; or ``never`` by a guess.
        suppress_tokens: Never generated; single-token ``bad_words_ids`` are among them.
        begin_suppress_tokens: Not generated as the first token (after a forced one).
        forced_bos_token_id: The first token, such as the target language.
        prompt_ids: What every transcript of Whisper goes on with after the start: language, task, format.
        no_speech_token_id: Its probability right after the start is that nobody speaks.
        no_timestamps_token_id: As the end of a prompt it says that no times are told. The tokens after it are
            times, 0.02 s apart, where a model has them.
        max_initial_timestamp_index: The latest time that may be told first.
        forced_eos_token_id: The last token when ``max_length`` is reached.
        repetition_penalty: Above 1, tokens that were generated already become less likely.
        no_repeat_ngram_size: No run of this many tokens comes twice; 0 allows it.
        min_length: No end before this many target tokens, the start token included.
        renormalize_logits: Beams are scored with log-probabilities of the tokens that are left.
    """

    decoder_start_token_id: _Token
    eos_token_id: tuple[_Token, ...]
    pad_token_id: _Token
    max_length: Annotated[int, AtLeast(2)]
    num_beams: Annotated[int, AtLeast(1)] = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    suppress_tokens: tuple[_Token, ...] = ()
    begin_suppress_tokens: tuple[_Token, ...] = ()
    forced_bos_token_id: _Token | None = None
    prompt_ids: tuple[_Token, ...] = ()
    no_speech_token_id: _Token | None = None
    no_timestamps_token_id: _Token | None = None
    max_initial_timestamp_index: _Count | None = None
    forced_eos_token_id: _Token | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: _Count = 0
    min_length: _Count = 0
    renormalize_logits: bool = False


def write_generation(folder: Path, generation: Generation) -> None:
    """Write ``generation.json``; equal values are equal bytes.

    Args:
        folder: The package to be.
        generation: What to write.
    """
    write_json(folder / GENERATION, generation)


def read_generation(folder: Path) -> Generation:
    """Read ``generation.json``.

    Args:
        folder: The package.

    Raises:
        DamagedArtifactError: The file is missing, or a field is missing, unknown or senseless.
    """
    path = folder / GENERATION
    document = read_json(path)
    names = [field.name for field in fields(Generation) if field.name not in _OF_SPEECH]
    missing = [name for name in names if not isinstance(document, dict) or name not in document]
    if missing:
        raise DamagedArtifactError(f"{path} has no {', '.join(missing)}", "get or build the package again")
    try:
        return _parse(document)
    except WrongTypeError as error:
        raise DamagedArtifactError(f"{path}: {error}", "get or build the package again") from error


def tells_times(generation: Generation) -> bool:
    """Whether times are told between the words: a Whisper does, unless its prompt says that it should not.

    Args:
        generation: The settings.
    """
    plain = generation.no_timestamps_token_id
    return plain is not None and generation.prompt_ids[-1:] != (plain,)


def check_tokens(folder: Path, generation: Generation, vocabulary: int) -> None:
    """Check that a model knows every token that its settings name.

    Args:
        folder: The package.
        generation: Its settings.
        vocabulary: Size of the model's logits.

    Raises:
        DamagedArtifactError: It does not.
    """
    for field in fields(generation):
        value = getattr(generation, field.name)
        tokens = value if isinstance(value, tuple) else (value,) if field.name.endswith("_token_id") else ()
        if beyond := [token for token in tokens if token is not None and token >= vocabulary]:
            raise DamagedArtifactError(
                f"{folder / GENERATION}: {field.name} is {beyond[0]}, "
                f"and the model's tokens are below {vocabulary}",
                "get or build the package again",
            )


def generation_of(config: Mapping[str, Any]) -> Generation:
    """Make it from a transformers generation config, with the defaults of ``generate()`` for what is not set.

    Args:
        config: ``generation_config.json``, or ``to_dict()`` of a ``GenerationConfig``; not set is also None.

    Raises:
        UnsupportedModelError: There is no token to start with, a value is senseless, or a setting is one that
            cannot be followed.
    """
    config = {name: value for name, value in config.items() if value is not None}
    _check_supported(config)
    ends = _tokens(config, "eos_token_id")
    found = {
        **{name: config[name] for name in _TAKEN_AS_THEY_ARE if name in config},
        "decoder_start_token_id": _start(config),
        "eos_token_id": ends,
        "pad_token_id": config.get("pad_token_id", ends[0] if ends else 0),
        "max_length": _length(config, "max_new_tokens", "max_length", _DEFAULT_MAX_LENGTH),
        "min_length": _length(config, "min_new_tokens", "min_length", 0),
        "suppress_tokens": sorted({*_tokens(config, "suppress_tokens"), *_bad_words(config, ends)}),
        "begin_suppress_tokens": sorted(set(_tokens(config, "begin_suppress_tokens"))),
        "forced_eos_token_id": _forced_end(config),
    }
    try:
        generation = _parse(found)
    except WrongTypeError as error:
        raise UnsupportedModelError(
            f"the model's generation config: {error}", "correct its generation_config.json"
        ) from error
    _check_forced(generation)
    return generation


# Packages of before speech have none.
_OF_SPEECH = (
    "prompt_ids",
    "no_speech_token_id",
    "no_timestamps_token_id",
    "max_initial_timestamp_index",
)

_TAKEN_AS_THEY_ARE = (
    "num_beams",
    "length_penalty",
    "early_stopping",
    "forced_bos_token_id",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "renormalize_logits",
    *_OF_SPEECH,
)

# Setting -> whether its value changes nothing; with any other, something else would come out.
_WITHOUT_EFFECT: dict[str, Callable[[Any], bool]] = {
    "do_sample": lambda value: value is False,
    "num_return_sequences": lambda value: value == 1,
    "num_beam_groups": lambda value: value == 1,
    "diversity_penalty": lambda value: value == 0,
    "penalty_alpha": lambda value: value == 0,
    "dola_layers": lambda value: False,
    "constraints": lambda value: False,
    "force_words_ids": lambda value: False,
    "sequence_bias": lambda value: False,
    "encoder_repetition_penalty": lambda value: value == 1,
    "encoder_no_repeat_ngram_size": lambda value: value == 0,
    "exponential_decay_length_penalty": lambda value: False,
    "guidance_scale": lambda value: value == 1,
    "remove_invalid_values": lambda value: value is False,
    "token_healing": lambda value: value is False,
    "watermarking_config": lambda value: False,
    "stop_strings": lambda value: False,
    "max_time": lambda value: False,
    "prompt_lookup_num_tokens": lambda value: False,
}


def _check_supported(config: Mapping[str, Any]) -> None:
    for name, has_no_effect in _WITHOUT_EFFECT.items():
        if name in config and not has_no_effect(config[name]):
            what = "sampling" if name == "do_sample" else f"{name} {config[name]!r}"
            raise UnsupportedModelError(
                f"the model's generation config asks for {what}, which a package cannot do",
                f"take {name} out of its generation_config.json to generate without it",
            )


def _check_forced(generation: Generation) -> None:
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        if getattr(generation, name) in generation.suppress_tokens:
            raise UnsupportedModelError(
                f"the model's generation config both forces and forbids token {getattr(generation, name)}",
                f"take {name}, or the token in bad_words_ids or suppress_tokens, out of it",
            )


def _start(config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """The decoder's first token, or ``bos_token_id`` in its place, as in ``generate()``."""
    start = config.get("decoder_start_token_id", config.get("bos_token_id"))
    if start is None:
        raise UnsupportedModelError(
            "the model's generation config has neither decoder_start_token_id nor bos_token_id: "
            "nothing says what the decoder starts with",
            "set decoder_start_token_id in its generation_config.json; of T5 and Marian it is the pad token",
        )
    return start


def _tokens(config: Mapping[str, Any], name: str) -> list[Any]:
    value = config.get(name, [])
    return list(value) if isinstance(value, list | tuple) else [value]


def _length(config: Mapping[str, Any], new: str, total: str, default: int) -> Any:  # noqa: ANN401 - JSON
    """Target tokens with start and prompt; the setting that counts without these wins, as in generate()."""
    told = 1 + len(config.get("prompt_ids", ()))
    return config[new] + told if isinstance(config.get(new), int) else config.get(total, default)


def _forced_end(config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    tokens = _tokens(config, "forced_eos_token_id")
    if len(tokens) > 1:
        raise UnsupportedModelError(
            f"the model's generation config forces one of several ends: {tokens}",
            "give forced_eos_token_id one token in its generation_config.json",
        )
    return tokens[0] if tokens else None


def _bad_words(config: Mapping[str, Any], ends: list[Any]) -> list[Any]:
    """Single tokens that are bad words; ends are not among them, as in ``generate()``."""
    words = [word if isinstance(word, list | tuple) else [word] for word in _tokens(config, "bad_words_ids")]
    if longer := next((word for word in words if len(word) != 1), None):
        raise UnsupportedModelError(
            f"the model's generation config has a bad word of several tokens: {longer}",
            "take it out of bad_words_ids in its generation_config.json; single tokens can stay",
        )
    return [word[0] for word in words if word and word[0] not in ends]


def _parse(document: Any) -> Generation:  # noqa: ANN401 - JSON
    generation = typed(Generation, document)
    if generation.repetition_penalty <= 0:
        raise WrongTypeError(
            "repetition_penalty", f"expected more than 0, found {generation.repetition_penalty:g}"
        )
    return generation
