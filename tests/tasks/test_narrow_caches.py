"""Small heads in a decoder: the same model, and graphs that keep less of each token."""

import copy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.export.torch_module import _write_graph
from edgelr.lowrank.layers import IntoHeads, OutOfHeads
from edgelr.lowrank.reduce import restructure
from edgelr.progress import Progress
from edgelr.recipe.schema import Export
from edgelr.runtime.decode import greedy
from edgelr.runtime.decoder_graph import GraphDecoder
from edgelr.runtime.generation import generation_of
from edgelr.structure import Reduction
from edgelr.tasks.narrow_caches import with_narrow_caches
from edgelr.tasks.translation_graphs import graph_specs

HEADS, FULL = 2, 16


def dense() -> Any:
    from transformers import MBartConfig, MBartForConditionalGeneration

    torch.manual_seed(0)
    config = MBartConfig(
        vocab_size=50,
        d_model=HEADS * FULL,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=40,
        init_std=0.3,
        pad_token_id=1,
        decoder_start_token_id=2,
    )
    model = MBartForConditionalGeneration(config).eval()
    with torch.no_grad():  # or every token would be followed by itself: the head is the embedding
        model.model.decoder.layer_norm.weight.copy_(torch.randn(HEADS * FULL))
    return model


PLACES = ("encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.encoder_attn")


def narrow(query_key: int | None = 7, value_output: int | None = 3, places: tuple[str, ...] = PLACES) -> Any:
    """Small heads everywhere, or in some places; of the decoder, as many channels as said."""
    model = dense()
    pairs = []
    for name in places:
        first, second = (5, 6) if name.startswith("encoder") else (query_key, value_output)
        q, k, v, out = (f"model.{name}.{part}_proj" for part in ("q", "k", "v", "out"))
        if first is not None:
            pairs.append(Reduction(form="query-key", sites=(q, k), rank=first, heads=HEADS))
        if second is not None:
            pairs.append(Reduction(form="value-output", sites=(v, out), rank=second, heads=HEADS))
    restructure(model, pairs)
    for module in model.modules():
        if isinstance(module, IntoHeads | OutOfHeads):
            nn.init.normal_(module.narrow.weight, std=0.3)
            nn.init.normal_(module.narrow.bias, std=0.3)
            if isinstance(module, IntoHeads):
                module.narrow.bias.data *= 0.5
    return model


def batch() -> dict[str, Any]:
    ids = torch.randint(5, 50, (3, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3, [1] * 5 + [0]])
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def logits(model: Any) -> torch.Tensor:
    tokens = torch.randint(5, 50, (3, 4), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found: torch.Tensor = model(**batch(), decoder_input_ids=tokens).logits
    return found


@pytest.mark.parametrize(
    ("query_key", "value_output", "size"),
    [(7, 3, 8), (2, 9, 16), (8, 8, 8), (7, None, 16), (None, 4, 16), (12, 1, 16)],
)
def test_it_is_the_same_model_with_heads_as_large_as_needed(
    query_key: int | None, value_output: int | None, size: int
) -> None:
    model = narrow(query_key, value_output)
    made: Any = with_narrow_caches(model)
    torch.testing.assert_close(logits(made), logits(model), atol=1e-5, rtol=1e-5)
    for attention in (made.model.decoder.layers[0].self_attn, made.model.decoder.layers[0].encoder_attn):
        assert attention.head_dim == size, "the larger of both, in eights"
        assert attention.k_proj.out_features == attention.out_proj.in_features == HEADS * size
        assert attention.scaling == FULL**-0.5
    layers = made.model.decoder.layers[0]
    assert not any(isinstance(module, IntoHeads | OutOfHeads) for module in layers.modules())


def test_the_model_is_not_changed_and_what_is_not_narrow_is_shared() -> None:
    model = narrow()
    before = copy.deepcopy(model.state_dict())
    made: Any = with_narrow_caches(model)
    assert model.model.decoder.layers[0].self_attn.head_dim == FULL
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert made.model.shared.weight is model.model.shared.weight
    plain = dense()
    assert with_narrow_caches(plain) is plain


@pytest.mark.parametrize(
    ("places", "own", "cross"),
    [
        (PLACES[:2], 8, 16),
        (PLACES[2:], 16, 8),
        pytest.param(PLACES, 8, 8, marks=pytest.mark.slow),  # both at once; tracing takes seconds
    ],
)
def test_graphs_keep_small_keys_and_values_and_translate_alike(
    tmp_path: Path, places: tuple[str, ...], own: int, cross: int
) -> None:
    model = narrow(places=places)
    tokens = torch.randint(5, 50, (3, 8), generator=torch.Generator().manual_seed(2))
    one = {name: each[:1] for name, each in batch().items()}
    for spec in graph_specs(model, [(batch(), tokens), (one, tokens[:1]), (batch(), tokens)]):
        _write_graph(spec, Export(), tmp_path, Progress(quiet=True))  # type: ignore[call-arg]
    graphs = {role: onnx.load(tmp_path / f"{role}.onnx").graph for role in ("encoder", "decoder")}
    kinds = [node.op_type for node in graphs["decoder"].node]
    assert kinds.count("GroupQueryAttention") == kinds.count("MultiHeadAttention") == 1
    kept = {
        value.name: value.type.tensor_type.shape.dim[3].dim_value
        for graph in graphs.values()
        for value in (*graph.input, *graph.output)
        if "_key_" in value.name or "_value_" in value.name
    }
    parts = ("key", "value")
    expected_sizes = {f"{state}_{part}_0": own for state in ("past", "present") for part in parts}
    assert kept == expected_sizes | {f"cross_{part}_0": cross for part in parts}
    device = load_devices()["cpu-1t"]
    decoder = GraphDecoder(*(open_session(tmp_path / f"{role}.onnx", device) for role in graphs))
    settings = {"decoder_start_token_id": 2, "eos_token_id": None, "pad_token_id": 1, "max_length": 12}
    decoder.read({name: each.numpy() for name, each in batch().items()})
    found = greedy(decoder, 3, generation_of(settings))
    model.generation_config.update(**settings, num_beams=1, forced_eos_token_id=None, bos_token_id=None)
    with torch.inference_mode():
        expected = model.generate(**batch())[:, 1:].tolist()
    assert found == expected
    assert len({tuple(row) for row in found}) == 3
