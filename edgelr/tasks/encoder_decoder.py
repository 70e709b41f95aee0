"""What the graphs of every encoder-decoder have in common, whatever its encoder reads.

The encoder's graph also gives the keys and values that the decoder's layers look at, which are the same for
every token. The decoder's graph takes one token and the keys and values of those before it: none at the first
step, so that one graph serves all steps and no weight is stored twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgelr.tasks.task import Batch, GraphSpec

# Tokens before the one of each parity case; the first is traced, and 0 would become a constant.
STEPS = (3, 0, 5)
_SOURCE = "source"  # the axis of what the decoder looks at

Step = Callable[[int, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""(number of the case, tokens ``[batch, 1]``, cache) -> what the decoder's graph gives."""


class EncoderModule(Protocol):
    """A module that is traced as an encoder's graph."""

    encoder: nn.Module
    decoder: nn.Module

    def __call__(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        """Keys and values of every decoder layer."""
        ...


def cross_cache(decoder: nn.Module, states: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
    """What the layers of a decoder look at.

    Args:
        decoder: Of an encoder-decoder of transformers.
        states: Of the encoder, ``[batch, source, dim]``.
        mask: Additive, ``[batch, 1, 1, source]``.

    Returns:
        Key and value of each layer in turn, ``[batch, heads, source, size]``.
    """
    return _flat(_first_step(decoder, states, mask).cross_attention_cache)


def empty_cache(model: nn.Module) -> tuple[Tensor, ...]:
    """What the layers of a decoder know before the first token.

    Their heads may be of another size than those over the source, where either were made smaller.

    Args:
        model: An encoder-decoder of transformers.

    Returns:
        Key and value of each layer in turn, ``[1, heads, 0, size]``.
    """
    decoder: nn.Module = model.get_decoder()  # type: ignore[operator]
    cache = _first_step(decoder, torch.zeros(1, 1, _width(model)), None).self_attention_cache
    return tuple(tensor[:, :, :0] for tensor in _flat(cache))


def _first_step(decoder: nn.Module, states: Tensor, mask: Tensor | None) -> Any:  # noqa: ANN401
    """The caches after any token; of what is made of it, a graph keeps only what is read."""
    from transformers import DynamicCache, EncoderDecoderCache

    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    masked = {} if mask is None else {"encoder_attention_mask": mask}
    decoder(
        input_ids=torch.zeros_like(states[:, :1, 0], dtype=torch.long),
        attention_mask=_nothing_masked(),
        encoder_hidden_states=states,
        past_key_values=cache,
        use_cache=True,
        **masked,
    )
    return cache


def next_token(
    model: nn.Module, input_ids: Tensor, cache: tuple[Tensor, ...], mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Take one step of a decoder.

    Args:
        model: An encoder-decoder of transformers.
        input_ids: The last token, ``[batch, 1]``.
        cache: Key and value of each layer in turn, first of the tokens before, ``[batch, heads, past,
            size]``, then of the source, ``[batch, heads, source, size]``.
        mask: Of the source, additive, ``[batch, 1, 1, source]``.

    Returns:
        Logits ``[batch, 1, vocabulary]``, and keys and values of all tokens, ``[batch, heads, past + 1,
        size]``.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    layers = len(cache) // 4
    past, cross = DynamicCache(), DynamicCache()
    for layer in range(layers):
        past.update(cache[2 * layer], cache[2 * layer + 1], layer)
        cross.update(cache[2 * (layers + layer)], cache[2 * (layers + layer) + 1], layer)
    both = EncoderDecoderCache(past, cross)
    both.is_updated = dict.fromkeys(range(layers), True)
    rows, source = cache[-1].shape[0], cache[-1].shape[2]
    given = {} if mask is None else {"attention_mask": mask}
    if "decoder_position_ids" in inspect.signature(model.forward).parameters:
        # One position for all rows; Whisper's own code would repeat it for each of them.
        given["decoder_position_ids"] = (torch.arange(1) + cache[0].shape[2]).unsqueeze(0)
    out = model(
        decoder_input_ids=input_ids,
        decoder_attention_mask=_nothing_masked(),
        # Only its shape is read: the layers look at the keys and values of the cache.
        encoder_outputs=_Read((torch.zeros(rows, source, _width(model)),)),
        past_key_values=both,
        use_cache=True,
        **given,
    )
    return (out.logits, *_flat(both.self_attention_cache))


class _Read(tuple[Tensor, ...]):
    """What an encoder gave: most models take the first of it, Moonshine takes it by name, with a mask."""

    __slots__ = ()
    hidden_states = attentions = None

    @property
    def last_hidden_state(self) -> Tensor:
        return self[0]

    @property
    def attention_mask(self) -> Tensor:
        return _nothing_masked()


def _nothing_masked() -> Tensor:
    """Of a single token, which sees all before it."""
    return torch.zeros(1, 1, 1, 1)


def _flat(cache: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 - transformers is not typed
    return tuple(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))


def _width(model: nn.Module) -> int:
    config: Any = model.config
    return int(getattr(config, "d_model", None) or config.hidden_size)


def cross_projections(graph: EncoderModule, batch: Batch) -> tuple[nn.Module, ...]:
    """The layers of the decoder that read the encoder's output, found by running them.

    Args:
        graph: The encoder's.
        batch: What it reads.
    """
    found: dict[int, nn.Module] = {}
    states: list[Tensor] = []

    def note(layer: nn.Module) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and any(args[0] is each for each in states):
                found[id(layer)] = layer

        return before

    handles: list[RemovableHandle] = [
        graph.encoder.register_forward_hook(lambda _, __, out: states.append(out.last_hidden_state))
    ]
    leaves = [each for each in graph.decoder.modules() if _has_matrix(each)]
    handles += [layer.register_forward_pre_hook(note(layer)) for layer in leaves]
    try:
        with torch.inference_mode():
            graph(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found.values())


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies by parameters of its own."""
    return any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))


@torch.inference_mode()
def step_arguments(
    cases: Sequence[tuple[tuple[Tensor, ...], Tensor]], step: Step, empty: Sequence[Tensor]
) -> list[Batch]:
    """What a decoder's graph takes at the steps of ``STEPS``, with the caches that the steps before leave.

    Args:
        cases: What the encoder's graph gave, and tokens ``[batch, target]``, start token first.
        step: The decoder.
        empty: As of ``empty_cache``.
    """
    taken = []
    for number, ((cross, tokens), before) in enumerate(zip(cases, STEPS, strict=True)):
        cache = tuple(tensor.expand(len(tokens), -1, -1, -1) for tensor in empty)
        for at in range(before):
            _, *filled = step(number, tokens[:, at : at + 1], (*cache, *cross))
            cache = tuple(filled)
        layers = len(cross) // 2
        named = (*_names("past", layers), *_names("cross", layers))
        caches = dict(zip(named, (*cache, *cross), strict=True))
        taken.append({"input_ids": tokens[:, before : before + 1], **caches})
    return taken


def encoder_spec(
    graph: EncoderModule,
    cases: Sequence[Batch],
    axes: Mapping[str, dict[int, str]],
    crossing: Sequence[nn.Module],
) -> GraphSpec:
    """The encoder's graph.

    Args:
        graph: What is traced.
        cases: Its inputs.
        axes: Their dynamic axes.
        crossing: Layers of the decoder that it runs.
    """
    assert isinstance(graph, nn.Module)
    with torch.inference_mode():
        layers = len(graph(**cases[0])) // 2
    cross = _names("cross", layers)
    lengths = {_SOURCE} if any(axis > 0 for named in axes.values() for axis in named) else set[str]()
    return GraphSpec(
        role="encoder",
        module=graph,
        cases=tuple(cases),
        dynamic_axes=dict(axes),
        outputs=cross,
        output_axes=_axes(cross, *lengths),
        idle=_all_but(graph.decoder, crossing),
        travels=False,
    )


def decoder_spec(
    graph: nn.Module,
    cases: Sequence[Batch],
    axes: Mapping[str, dict[int, str]],
    encoder: EncoderModule,
    crossing: Sequence[nn.Module],
) -> GraphSpec:
    """The decoder's graph.

    Args:
        graph: What is traced.
        cases: Its inputs: tokens, what else it takes of the source, caches.
        axes: Dynamic axes of what is no token and no cache.
        encoder: The encoder's graph, most of which it does not run.
        crossing: Layers of the decoder that the encoder's graph runs.
    """
    past, cross = ([name for name in cases[0] if name.startswith(kind)] for kind in ("past", "cross"))
    present = tuple(name.replace("past", "present", 1) for name in past)
    # Where there is a mask its axis is open, even if all cases happen to be of one length.
    lengths = {_SOURCE} if axes or len({case[cross[0]].shape[2] for case in cases}) > 1 else set()
    return GraphSpec(
        role="decoder",
        module=graph,
        cases=tuple(cases),
        dynamic_axes={
            "input_ids": {0: "batch"},
            **axes,
            **_axes(past, "past"),
            **_axes(cross, *lengths),
        },
        outputs=("logits", *present),
        output_axes={"logits": {0: "batch"}, **_axes(present, "past + 1")},
        plain=len(cases[0]) - len(past) - len(cross),
        idle=(*_all_but(encoder.encoder, tuple(encoder.decoder.modules())), *crossing),
        travels=False,
        one_token=True,
    )


def _names(prefix: str, layers: int) -> tuple[str, ...]:
    return tuple(f"{prefix}_{kind}_{layer}" for layer in range(layers) for kind in ("key", "value"))


def _axes(names: Sequence[str], tokens: str | None = None) -> dict[str, dict[int, str]]:
    return {name: {0: "batch", **({} if tokens is None else {2: tokens})} for name in names}


def _all_but(module: nn.Module, kept: Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    """Every module inside one that has matrices of its own and is not among ``kept``."""
    chosen = {id(each) for each in kept}
    return tuple(each for each in module.modules() if _has_matrix(each) and id(each) not in chosen)
