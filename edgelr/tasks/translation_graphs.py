"""The two graphs of an encoder-decoder: what runs once a text, and what runs once a token.

The encoder's graph also gives the keys and values that the decoder's layers look at, which are the same for
every token. The decoder's graph takes one token and the keys and values of those before it: none at the first
step, so that one graph serves all steps and no weight is stored twice.

What is masked is said by additive masks ``[batch, 1, 1, source]``, which the attention layers of transformers
take as they are; its own mask code traces to dozens of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgelr.tasks.task import Batch, GraphSpec

_MASKED = -1.0e9  # added to the scores of padding; finite, so that a fully masked row is no NaN
# Tokens before the one of each parity case; the first is traced, and 0 would become a constant.
_STEPS = (3, 0, 5)


class EncoderGraph(nn.Module):
    """Token ids and mask in, keys and values of every decoder layer out.

    Args:
        model: An encoder-decoder of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = model.get_encoder()  # type: ignore[operator]
        self.decoder = model.get_decoder()  # type: ignore[operator]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Read ``input_ids [batch, source]`` under ``attention_mask [batch, source]``.

        Returns:
            Key and value of each layer in turn, ``[batch, heads, source, size]``.
        """
        from transformers import DynamicCache, EncoderDecoderCache

        mask = _additive(attention_mask)
        states = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        # One step over any token fills the cache; everything else of it is dropped from the graph.
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.decoder(
            input_ids=torch.zeros_like(input_ids[:, :1]),
            attention_mask=_nothing_masked(),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        return _flat(cache.cross_attention_cache)


class DecoderGraph(nn.Module):
    """One token in, the scores of the next one out.

    Args:
        model: An encoder-decoder of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, cache: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Take one step.

        Args:
            input_ids: The last token, ``[batch, 1]``.
            attention_mask: Of the source, ``[batch, source]``.
            cache: Key and value of each layer in turn, first of the tokens before, ``[batch, heads, past,
                size]``, then of the source, ``[batch, heads, source, size]``.

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
        out = self.model(
            decoder_input_ids=input_ids,
            decoder_attention_mask=_nothing_masked(),
            # Only its shape is read: the layers look at the keys and values of the cache.
            encoder_outputs=(torch.zeros(*attention_mask.shape, _width(self.model)),),
            attention_mask=_additive(attention_mask),
            past_key_values=both,
            use_cache=True,
        )
        return (out.logits, *_flat(both.self_attention_cache))


def _additive(attention_mask: Tensor) -> Tensor:
    return (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * _MASKED


def _nothing_masked() -> Tensor:
    """Of a single token, which sees all before it."""
    return torch.zeros(1, 1, 1, 1)


def _flat(cache: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 - transformers is not typed
    return tuple(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))


def _width(model: nn.Module) -> int:
    return int(model.config.d_model)  # type: ignore[union-attr, arg-type]


def cross_projections(model: nn.Module, batch: Batch) -> tuple[nn.Module, ...]:
    """The layers of the decoder that read the encoder's output, found by running them.

    Args:
        model: An encoder-decoder of transformers.
        batch: ``input_ids`` and ``attention_mask``, ``[batch, source]``.
    """
    found: dict[int, nn.Module] = {}
    states: list[Tensor] = []

    def note(layer: nn.Module) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and any(args[0] is each for each in states):
                found[id(layer)] = layer

        return before

    graph = EncoderGraph(model)
    handles: list[RemovableHandle] = [
        graph.encoder.register_forward_hook(lambda _, __, out: states.append(out.last_hidden_state))
    ]
    leaves = [each for each in graph.decoder.modules() if _has_matrix(each)]
    handles += [layer.register_forward_pre_hook(note(layer)) for layer in leaves]
    try:
        with torch.inference_mode():
            graph(batch["input_ids"], batch["attention_mask"])
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found.values())


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies by parameters of its own."""
    return any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))


def graph_specs(model: nn.Module, cases: Sequence[tuple[Batch, Tensor]]) -> list[GraphSpec]:
    """The graphs to export, with parity cases.

    Args:
        model: An encoder-decoder of transformers.
        cases: Source batches of several shapes, and tokens of the decoder for each ``[batch, target]``, start
            token first, at least ``max(_STEPS) + 1`` of them.
    """
    encoder, decoder = EncoderGraph(model), DecoderGraph(model)
    crossing = cross_projections(model, cases[0][0])
    layers = len(encoder(**cases[0][0])) // 2
    past, present, cross = (_names(prefix, layers) for prefix in ("past", "present", "cross"))
    steps = [_step(decoder, encoder, *case, before) for case, before in zip(cases, _STEPS, strict=True)]
    named = ("input_ids", "attention_mask", *past, *cross)
    source = {0: "batch", 1: "source"}
    return [
        GraphSpec(
            role="encoder",
            module=encoder,
            cases=tuple(batch for batch, _ in cases),
            dynamic_axes={"input_ids": source, "attention_mask": source},
            outputs=cross,
            output_axes=_axes(cross, "source"),
            idle=_all_but(encoder.decoder, crossing),
            travels=False,
        ),
        GraphSpec(
            role="decoder",
            module=decoder,
            cases=tuple(dict(zip(named, step, strict=True)) for step in steps),
            dynamic_axes={
                "input_ids": {0: "batch"},
                "attention_mask": source,
                **_axes(past, "past"),
                **_axes(cross, "source"),
            },
            outputs=("logits", *present),
            output_axes={"logits": {0: "batch"}, **_axes(present, "past + 1")},
            plain=2,
            idle=(*_all_but(encoder.encoder, tuple(encoder.decoder.modules())), *crossing),
            travels=False,
            one_token=True,
        ),
    ]


def _names(prefix: str, layers: int) -> tuple[str, ...]:
    return tuple(f"{prefix}_{kind}_{layer}" for layer in range(layers) for kind in ("key", "value"))


def _axes(names: Sequence[str], tokens: str) -> dict[str, dict[int, str]]:
    return {name: {0: "batch", 2: tokens} for name in names}


def _all_but(module: nn.Module, kept: Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    """Every module inside one that has matrices of its own and is not among ``kept``."""
    chosen = {id(each) for each in kept}
    return tuple(each for each in module.modules() if _has_matrix(each) and id(each) not in chosen)


@torch.inference_mode()
def _step(
    decoder: DecoderGraph, encoder: EncoderGraph, source: Batch, tokens: Tensor, before: int
) -> tuple[Tensor, ...]:
    """The inputs of the step after ``before`` others, with the cache that these leave."""
    cross = encoder(**source)
    cache = tuple(tensor[:, :, :0] for tensor in cross)
    for at in range(before):
        _, *filled = decoder(tokens[:, at : at + 1], source["attention_mask"], (*cache, *cross))
        cache = tuple(filled)
    return (tokens[:, before : before + 1], source["attention_mask"], *cache, *cross)
