"""One graph for prompts and single tokens: equal to torch, and to generate(), in every family."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from generation_fixtures import FAMILIES
from torch import Tensor

from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import UnsupportedModelError
from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import matrix_count, traced_form
from edgelr.export.packed import pack_projections
from edgelr.export.parity import check_parity
from edgelr.export.tables import share_tables
from edgelr.export.tidy import tidy
from edgelr.lowrank.graph_file import write_graph
from edgelr.runtime.causal_decoder import CausalDecoder
from edgelr.runtime.decode import greedy_steps
from edgelr.runtime.generation import Generation
from edgelr.tasks.task import GraphSpec
from edgelr.tasks.text_generation_graphs import graph_spec
from edgelr.tasks.text_generation_model import load_model

# The others are llama and gpt2 with another norm, bias or window; two exports are enough for every run.
OFTEN = ("qwen3", "gemma3")
NEW_TOKENS = 20


def spec_of(model: torch.nn.Module, ids: Tensor) -> GraphSpec:
    length = ids.shape[1]
    return graph_spec(model, [(ids, 4), (ids, 0), (ids, length - 1), (ids[:, :-1], 3)])


@pytest.mark.parametrize(
    "family",
    [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def test_a_family_is_equal_to_torch_and_to_generate(
    family: str, make_causal: Callable[[str], Path], cpu: Device, tmp_path: Path
) -> None:
    model = load_model(make_causal(family))
    ids = torch.randint(3, 300, (1, 11), generator=torch.Generator().manual_seed(1))
    spec = spec_of(model, ids)
    graph = convert(spec, traced_form(spec.module), 20)
    assert fuse_attention(graph) == 2
    proto = tidy(graph, spec, matrix_count(spec.module))
    share_tables(proto)
    pack_projections(proto)
    path = tmp_path / "decoder.onnx"
    write_graph(proto, path)
    assert check_parity(spec, path, 1e-4)[1] < 1e-4  # fp32 rounding through two layers of large weights
    decoder = CausalDecoder(open_session(path, cpu, entries={}))
    length = ids.shape[1] + NEW_TOKENS
    settings = Generation(decoder_start_token_id=1, eos_token_id=(), pad_token_id=0, max_length=length)
    found = [int(tokens[0]) for tokens in greedy_steps(decoder, 1, settings, ids.numpy())]
    wanted = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None)  # type: ignore[operator]
    assert found == wanted[0, ids.shape[1] :].tolist()


def test_cases_are_a_middle_a_prompt_and_single_tokens(make_causal: Callable[[str], Path]) -> None:
    spec = spec_of(load_model(make_causal("llama")), torch.arange(3, 14)[None])
    shapes = [
        (case["input_ids"].shape[1], case["past_key_0"].shape[2], int(case["total_sequence_length"]))
        for case in spec.cases
    ]
    assert shapes == [(7, 4, 11), (11, 0, 11), (1, 10, 11), (7, 3, 10)]
    assert [name for name in spec.cases[0] if not name.startswith(("past_key", "past_value"))] == [
        "input_ids",
        "logits_to_keep",
        "past_length",
        "seqlens_k",
        "total_sequence_length",
    ]


def test_only_the_tokens_that_are_asked_for_are_scored(make_causal: Callable[[str], Path]) -> None:
    spec = spec_of(load_model(make_causal("llama")), torch.arange(3, 14)[None])
    case = spec.cases[1]
    with torch.inference_mode():
        whole, last = (
            spec.module(*spec.arguments(case | {"logits_to_keep": kept}))[0]
            for kept in (torch.arange(11), torch.tensor([10]))
        )
    assert last.shape == (1, 1, whole.shape[2])
    torch.testing.assert_close(last[:, 0], whole[:, 10])


def test_heads_that_the_operator_does_not_take_are_said() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50, hidden_size=24, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(UnsupportedModelError, match=r"heads of 12 channels.*multiples of 8"):
        graph_spec(LlamaForCausalLM(config), [(torch.ones(1, 5, dtype=torch.long), 2)])
