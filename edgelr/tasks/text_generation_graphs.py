"""The graph of a causal language model: one for its prompt and for every token after it.

It takes tokens, as many as there are, and the keys and values of those before them, none at first; so no
weight is stored twice. Traced, a step's attention is some twenty nodes, with masks that grow; here it is one
of ONNX Runtime's operators from the start, which knows grouped heads, windows and soft caps, and writes into
the buffers that hold the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.runtime.caches import COUNTERS, counters_of
from edgelr.runtime.causal_decoder import DECODER, KEPT
from edgelr.tasks.task import Batch, GraphSpec

HEAD_MULTIPLE = 8  # of the size of a head, for the operator
_OPERATOR = "edgelr-cached"  # attention by the operator, among the kinds that transformers knows


class CausalGraph(nn.Module):
    """Tokens in, the scores of what comes after them out.

    Args:
        model: A causal language model of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(
        self,
        input_ids: Tensor,
        logits_to_keep: Tensor,
        past_length: Tensor,
        seqlens_k: Tensor,
        total_sequence_length: Tensor,
        cache: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        """Go on by some tokens.

        Args:
            input_ids: ``[batch, tokens]``.
            logits_to_keep: Which of these tokens are scored, ``[kept]``: of a prompt, the last one is enough.
            past_length: Tokens before, ``[1]``.
            seqlens_k: Index of the last token, ``[batch]``.
            total_sequence_length: ``[1]``.
            cache: Key and value of each layer in turn, ``[batch, heads, past, size]``.

        Returns:
            Logits ``[batch, kept, vocabulary]``, and keys and values of all tokens, ``[batch, heads, past +
            tokens, size]``.
        """
        positions = (past_length + torch.arange(input_ids.shape[1])).unsqueeze(0)
        past: _Plain | _Operator
        if torch.onnx.is_in_onnx_export():
            past = _Operator(cache, seqlens_k, total_sequence_length)
            past.serve(self.model)
        else:
            past = _Plain(cache)
        out = self.model(
            input_ids=input_ids,
            position_ids=positions,
            past_key_values=past.cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        )
        return (out.logits, *past.present())


class _Plain:
    """The cache of transformers itself, as torch runs it."""

    def __init__(self, cache: tuple[Tensor, ...]) -> None:
        from transformers import DynamicCache

        self.cache = DynamicCache()
        for layer in range(len(cache) // 2):
            self.cache.update(cache[2 * layer], cache[2 * layer + 1], layer)

    def present(self) -> tuple[Tensor, ...]:
        return tuple(tensor for layer in self.cache.layers for tensor in (layer.keys, layer.values))


class _Operator:
    """Attention and cache as one operator of ONNX Runtime, which exists in a graph only."""

    def __init__(self, past: tuple[Tensor, ...], last: Tensor, total: Tensor) -> None:
        from transformers import DynamicCache

        class Passing(DynamicCache):  # type: ignore[misc] # transformers is not typed
            """Hands new keys and values on as they are: the operator appends them."""

            def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
                return keys, values

        self.cache = Passing()
        self._past, self._last, self._total = past, last, total
        self._present: dict[int, tuple[Tensor, Tensor]] = {}

    def serve(self, model: Any) -> None:  # noqa: ANN401
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        ALL_ATTENTION_FUNCTIONS.register(_OPERATOR, self.attend)
        model.set_attn_implementation(_OPERATOR)

    def attend(
        self,
        module: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _mask: Tensor | None,
        scaling: float,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **_: Any,  # noqa: ANN401
    ) -> tuple[Tensor, None]:
        layer = module.layer_idx
        past = self._past[2 * layer : 2 * layer + 2]
        batch, heads, tokens, size = query.shape
        shape = [batch, key.shape[1], past[0].shape[2] + tokens, size]
        joined = [each.transpose(1, 2).reshape(batch, tokens, -1) for each in (query, key, value)]
        out, *present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            [*joined, *past, self._last, self._total],
            {
                "num_heads": heads,
                "kv_num_heads": key.shape[1],
                "scale": float(scaling),
                **({} if sliding_window is None else {"local_window_size": int(sliding_window)}),
                **({} if softcap is None else {"softcap": float(softcap)}),
            },
            dtypes=[query.dtype] * 3,
            shapes=[[batch, tokens, heads * size], shape, shape],
            version=1,
        )
        self._present[layer] = (present[0], present[1])
        return out.reshape(batch, tokens, heads, size), None

    def present(self) -> tuple[Tensor, ...]:
        return tuple(tensor for _, pair in sorted(self._present.items()) for tensor in pair)


@torch.inference_mode()
def graph_spec(model: nn.Module, cases: Sequence[tuple[Tensor, int]]) -> GraphSpec:
    """The graph to export, with parity cases.

    It reads one text at a time: the operator takes several tokens behind others only of a single text.

    Args:
        model: A causal language model of transformers.
        cases: Tokens ``[1, tokens]``, and how many of them are in the cache already. The first is traced: it
            has two of either at least.

    Raises:
        UnsupportedModelError: The operator does not take its heads.
    """
    graph = CausalGraph(model)
    empty = _empty_cache(model, cases[0][0])
    past, present = (_names(prefix, len(empty) // 2) for prefix in ("past", "present"))
    return GraphSpec(
        role=DECODER,
        module=graph,
        cases=tuple(_case(graph, ids, before, empty) for ids, before in cases),
        dynamic_axes={
            "input_ids": {1: "tokens"},
            KEPT: {0: "kept"},
            **{name: {} for name in COUNTERS},
            **{name: {2: "past"} for name in past},
        },
        outputs=("logits", *present),
        output_axes={"logits": {1: "kept"}, **{name: {2: "past + tokens"} for name in present}},
        plain=2 + len(COUNTERS),
        travels=False,
        one_token=True,
    )


def _empty_cache(model: nn.Module, ids: Tensor) -> tuple[Tensor, ...]:
    """Keys and values of no tokens, of every layer, as one run of the model leaves them."""
    cache = model(input_ids=ids[:, :1], use_cache=True).past_key_values
    found = tuple(each[:, :, :0] for layer in cache.layers for each in (layer.keys, layer.values))
    sizes = {each.shape[-1] for each in found}
    if len(sizes) != 1 or sizes.pop() % HEAD_MULTIPLE:
        raise UnsupportedModelError(
            f"attention heads of {', '.join(str(each) for each in sorted({e.shape[-1] for e in found}))} "
            f"channels: ONNX Runtime's GroupQueryAttention takes multiples of {HEAD_MULTIPLE}, all alike",
            "the model cannot be exported yet",
        )
    return found


def _case(graph: CausalGraph, ids: Tensor, before: int, empty: tuple[Tensor, ...]) -> Batch:
    """What the graph takes for all tokens but those before."""
    cache = empty
    if before:
        first = (ids[:, :before], torch.arange(1), *_counters(0, before).values())
        _, *filled = graph(*first, cache)
        cache = tuple(filled)
    new = ids.shape[1] - before
    return {
        "input_ids": ids[:, before:],
        KEPT: torch.arange(new),
        **_counters(before, new),
        **dict(zip(_names("past", len(cache) // 2), cache, strict=True)),
    }


def _counters(past: int, tokens: int) -> Batch:
    counters = counters_of(1, past, tokens)
    return {name: torch.from_numpy(counters[name]) for name in COUNTERS}


def _names(prefix: str, layers: int) -> list[str]:
    return [f"{prefix}_{part}_{layer}" for layer in range(layers) for part in ("key", "value")]
