"""Two graphs that give, token by token, what the whole model gives: families, dense and factored."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import pytest
import torch
from torch import Tensor, nn

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.export import torch_module as stage
from edgelr.export.graphs import matrix_count, traceable
from edgelr.export.plain import write_plainly
from edgelr.export.tidy import _name_outputs
from edgelr.lowrank.embedding import LowRankEmbedding, LowRankHead
from edgelr.lowrank.layers import LowRankLinear
from edgelr.lowrank.reduce import restructure
from edgelr.progress import Progress
from edgelr.recipe.schema import Export
from edgelr.runtime.decode import beam_search, greedy
from edgelr.runtime.decoder_graph import GraphDecoder
from edgelr.runtime.generation import Generation, generation_of
from edgelr.structure import Reduction
from edgelr.survey.sites import find_sites
from edgelr.tasks.encoder_decoder import cross_projections
from edgelr.tasks.task import Batch
from edgelr.tasks.translation_graphs import DecoderGraph, EncoderGraph, graph_specs
from edgelr.tasks.translation_model import load_model

SIZES: dict[str, Any] = {
    "vocab_size": 70,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "init_std": 0.3,
    "decoder_start_token_id": 2,
}


def m2m100() -> Any:
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    return M2M100ForConditionalGeneration(M2M100Config(**SIZES))


def mbart() -> Any:
    from transformers import MBartConfig, MBartForConditionalGeneration

    return MBartForConditionalGeneration(MBartConfig(**SIZES, scale_embedding=True))


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=70,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=1,
        num_heads=4,
        initializer_factor=2.0,
        decoder_start_token_id=0,
        pad_token_id=1,
    )
    return T5ForConditionalGeneration(config)


FAMILIES: dict[str, Callable[[], Any]] = {"m2m100": m2m100, "mbart": mbart, "t5": t5}
CROSSING = {
    "marian": "model.decoder.layers.{}.encoder_attn.{}_proj",
    "m2m100": "model.decoder.layers.{}.encoder_attn.{}_proj",
    "mbart": "model.decoder.layers.{}.encoder_attn.{}_proj",
    "t5": "decoder.block.{}.layer.1.EncDecAttention.{}",
}


def made(name: str) -> Any:
    """A model of a family, whose greedy translations are of any length up to 15."""
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    settings = {"decoder_start_token_id": model.config.decoder_start_token_id, "pad_token_id": 1}
    last = model.decoder.final_layer_norm if name == "t5" else model.model.decoder.layer_norm
    with torch.no_grad():
        # A head that is the embedding lets every token be followed by itself, without other signs here.
        last.weight.copy_(torch.randn(32))
    # Tokens do not end by themselves with random weights: let many of them be an end.
    model.generation_config.update(
        **settings, eos_token_id=[*range(3, 9)], forced_eos_token_id=None, max_length=16, num_beams=1
    )
    model.generation_config.update(no_repeat_ngram_size=2, bos_token_id=None)
    return model


def crossing(name: str, model: Any) -> dict[str, nn.Module]:
    """Keys and values of every cross attention, by name."""
    modules = dict(model.named_modules())
    found = [CROSSING[name].format(layer, part) for layer in range(2) for part in "kv"]
    return {each: modules[each] for each in found if each in modules}


def factored(name: str, dense: Any) -> Any:
    """Every layer and every table in two factors; the keys and values of a source share one."""
    model = copy.deepcopy(dense)
    found = find_sites(model, ("*",), (), vocabulary=True)
    joint = tuple(crossing(name, model))
    rank = {site: max(1, min(module.weight.shape) // 4) for site, module in found.sites.items()}
    low = [
        Reduction(form="low-rank", sites=(site,), rank=rank[site], shared=tuple(found.shared.get(site, ())))
        for site in found.sites
        if site not in joint
    ]
    restructure(model, [Reduction(form="joint", sites=joint, rank=12), *low])
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, LowRankLinear | LowRankEmbedding | LowRankHead):
            for matrix in (
                getattr(module, each) for each in ("up", "down", "table") if hasattr(module, each)
            ):
                nn.init.normal_(matrix, std=(0.3 / module.rank**0.5) ** 0.5)  # of a product: 0.3
            if name == "t5" and isinstance(module, LowRankLinear):
                module.up.data *= 0.7  # T5 does not scale its scores
    return model


@pytest.fixture(scope="module")
def marian(tiny_translator: Path) -> Any:
    model: Any = load_model(tiny_translator)
    model.generation_config.update(num_beams=1, max_length=48)
    return model


@pytest.fixture
def model_of(marian: Any) -> Callable[[str, str], Any]:
    """``model_of("t5", "factored")``, a model of the test's own."""

    def get(name: str, form: str) -> Any:
        dense = copy.deepcopy(marian) if name == "marian" else made(name)
        return dense if form == "dense" else factored(name, dense)

    return get


def batches() -> list[Batch]:
    """Padded batches of three, one and four texts."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for lengths in ((7, 3, 5), (4,), (2, 9, 1, 6)):
        mask = torch.tensor([[1] * length + [0] * (max(lengths) - length) for length in lengths])
        ids = torch.randint(15, 69, mask.shape, generator=generator)
        found.append({"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask})
    return found


def cases() -> list[tuple[Batch, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (batch, torch.randint(15, 69, (len(batch["input_ids"]), 8), generator=generator))
        for batch in batches()
    ]


# --- in torch ---------------------------------------------------------------------------------------

ALL = [(name, form) for name in CROSSING for form in ("dense", "factored")]


@pytest.mark.parametrize(("name", "form"), ALL)
def test_step_by_step_the_logits_are_those_of_the_whole_model(
    name: str, form: str, model_of: Callable[[str, str], Any]
) -> None:
    model = traceable(model_of(name, form))
    encoder, decoder = EncoderGraph(model), DecoderGraph(model)
    for source, tokens in cases():
        with torch.inference_mode():
            expected = model(**source, decoder_input_ids=tokens, use_cache=False).logits
            cross = encoder(**source)
            cache = tuple(tensor[:, :, :0] for tensor in cross)
            steps = []
            for at in range(tokens.shape[1]):
                logits, *present = decoder(tokens[:, at : at + 1], source["attention_mask"], (*cache, *cross))
                cache = tuple(present)
                steps.append(logits)
        # Sums in another order, through all layers.
        torch.testing.assert_close(
            torch.cat(steps, 1), expected, atol=2e-5 * float(expected.abs().max()), rtol=0
        )
        assert {tensor.shape[2] for tensor in cache} == {tokens.shape[1]}


@pytest.mark.parametrize(("name", "form"), ALL)
def test_the_layers_that_read_the_source_are_the_keys_and_values_of_every_cross_attention(
    name: str, form: str, model_of: Callable[[str, str], Any]
) -> None:
    model = model_of(name, form)
    expected = crossing(name, model)
    assert len(expected) == (4 if name == "marian" else 2)
    assert form == "dense" or len({id(layer.down) for layer in expected.values()}) == 1
    found = cross_projections(EncoderGraph(model), batches()[0])
    assert {id(layer) for layer in found} == {id(layer) for layer in expected.values()}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("name", "form", "encoder", "decoder"),
    [
        # Six matrices a layer of the encoder and two crossing ones; eight a layer of the decoder, and a head.
        ("marian", "dense", 2 * (6 + 2), 2 * 8 + 1),
        ("mbart", "dense", 6 + 2, 8 + 1),
        ("t5", "dense", 6 + 2, 8 + 1),
        # Two each; one shared by all that is crossing; the table is widened, and the head reads it twice.
        ("marian", "factored", 1 + 2 * 12 + (1 + 4), 1 + 2 * 16 + 2),
        ("mbart", "factored", 1 + 12 + (1 + 2), 1 + 16 + 2),
        # The table of relative positions is one more.
        ("t5", "factored", 1 + 12 + (1 + 2) + 1, 1 + 16 + 2 + 1),
    ],
)
def test_each_graph_has_the_matrices_of_its_own_half(
    name: str, form: str, encoder: int, decoder: int, model_of: Callable[[str, str], Any]
) -> None:
    specs = graph_specs(model_of(name, form), cases())
    assert [spec.role for spec in specs] == ["encoder", "decoder"]
    assert [matrix_count(spec.module, spec.idle) for spec in specs] == [encoder, decoder]


def test_the_cases_are_of_three_shapes_and_three_lengths(model_of: Callable[[str, str], Any]) -> None:
    encoder, decoder = graph_specs(model_of("marian", "dense"), cases())
    assert [tuple(case["input_ids"].shape) for case in encoder.cases] == [(3, 7), (1, 4), (4, 9)]
    assert [tuple(case["past_key_1"].shape) for case in decoder.cases] == [
        (3, 4, 3, 8),
        (1, 4, 0, 8),
        (4, 4, 5, 8),
    ]
    assert [tuple(case["cross_value_1"].shape) for case in decoder.cases] == [
        (3, 4, 7, 8),
        (1, 4, 4, 8),
        (4, 4, 9, 8),
    ]
    assert encoder.outputs == ("cross_key_0", "cross_value_0", "cross_key_1", "cross_value_1")
    assert decoder.outputs[:3] == ("logits", "present_key_0", "present_value_0")
    assert not encoder.travels
    assert not decoder.travels


def test_the_length_of_a_source_is_open_though_all_cases_are_of_one(
    model_of: Callable[[str, str], Any],
) -> None:
    ids = torch.full((2, 5), 20)
    same = [({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, torch.full((2, 8), 20))] * 3
    _, decoder = graph_specs(model_of("marian", "dense"), same)
    assert decoder.dynamic_axes["attention_mask"][1] == "source"
    assert decoder.dynamic_axes["cross_key_0"][2] == decoder.dynamic_axes["cross_value_1"][2] == "source"


# --- exported ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model and its graphs; ``plain`` holds them as they were before any attention was fused."""

    model: Any
    folder: Path
    plain: Path
    fused: dict[str, int]

    def decoder(self, folder: Path | None = None) -> GraphDecoder:
        device = load_devices()["cpu-1t"]
        files = ((folder or self.folder) / f"{role}.onnx" for role in ("encoder", "decoder"))
        return GraphDecoder(*(open_session(file, device, entries={}) for file in files))


def exported(model: Any, folder: Path) -> Exported:
    """Write both graphs as the stage does, which also holds each of them against torch on three shapes."""
    plain = folder / "plain"
    plain.mkdir(parents=True)
    fused: dict[str, int] = {}
    for spec in graph_specs(model, cases()):
        real = stage.fuse_attention

        def noted(graph: Any, spec: Any = spec, real: Any = real) -> int:
            onnx.save(unfused(graph, spec), plain / f"{spec.role}.onnx")
            fused[spec.role] = real(graph)
            return fused[spec.role]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "fuse_attention", noted)
            stage._write_graph(spec, Export(), folder, Progress(quiet=True))  # type: ignore[call-arg]
    return Exported(model=model, folder=folder, plain=plain, fused=fused)


def unfused(graph: Any, spec: Any) -> onnx.ModelProto:
    """The graph as it was traced, with the names of the package."""
    proto = onnx_ir.to_proto(graph)
    _name_outputs(proto, spec)
    return proto


# Tracing takes most of the time of all tests: each family in one form, unless there is time for both.
EXPORTED = [
    "mbart-dense",
    "m2m100-factored",
    "t5-factored",
    pytest.param("t5-dense", marks=pytest.mark.slow),
    pytest.param("mbart-factored", marks=pytest.mark.slow),
    pytest.param("m2m100-dense", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=EXPORTED)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    name, form = request.param.split("-")
    model = made(name) if form == "dense" else factored(name, made(name))
    return exported(model, tmp_path_factory.mktemp(request.param))


def settings(model: Any, **changes: Any) -> Generation:
    return generation_of({**model.generation_config.to_dict(), **changes})


def by_transformers(model: Any, batch: Batch, **options: Any) -> list[list[int]]:
    """Target tokens of each text up to and with the one that ended it."""
    config = model.generation_config
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    with torch.inference_mode():
        rows = model.generate(**batch, **options)[:, 1:].tolist()
    lengths = [next((at + 1 for at, token in enumerate(row) if token in ends), len(row)) for row in rows]
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def by_graphs(
    decoder: GraphDecoder, batch: Batch, search: Callable[[int], list[list[int]]]
) -> list[list[int]]:
    decoder.read({name: batch[name].numpy() for name in ("input_ids", "attention_mask")})
    return search(len(batch["input_ids"]))


def greedily(decoder: GraphDecoder, model: Any, data: Sequence[Batch]) -> Iterator[list[list[int]]]:
    for batch in data:
        yield by_graphs(decoder, batch, lambda rows: greedy(decoder, rows, settings(model)))


def check_varied(translations: Sequence[Sequence[int]]) -> None:
    """Or nothing was compared."""
    assert len(set(map(tuple, translations))) > len(translations) // 2
    assert len(set(map(len, translations))) > 1
    assert sum(len(set(each)) for each in translations) > 3 * len(translations)


def test_greedy_translations_of_a_family_are_those_of_transformers(family: Exported) -> None:
    expected = [by_transformers(family.model, batch) for batch in batches()]
    check_varied([row for rows in expected for row in rows])
    assert list(greedily(family.decoder(), family.model, batches())) == expected


def test_before_any_attention_was_fused_too(family: Exported) -> None:
    """With as many operators more."""
    expected = [by_transformers(family.model, batch) for batch in batches()]
    assert list(greedily(family.decoder(family.plain), family.model, batches())) == expected
    for role in ("encoder", "decoder"):
        counts = [
            len(onnx.load(folder / f"{role}.onnx").graph.node) for folder in (family.folder, family.plain)
        ]
        assert counts[0] < 0.6 * counts[1]


def test_in_plain_operators_under_a_mask_too(family: Exported, tmp_path: Path) -> None:
    """Of T5 the bias of every distance is a table then."""
    for role in ("encoder", "decoder"):
        proto = onnx.load(family.folder / f"{role}.onnx")
        write_plainly(proto)
        assert not {node.op_type for node in proto.graph.node} & {"GroupQueryAttention", "Log"}
        assert not any(node.domain for node in proto.graph.node)
        onnx.save(proto, tmp_path / f"{role}.onnx")
    assert "past_mask" in {entry.name for entry in proto.graph.input}
    decoder = family.decoder(tmp_path)
    expected = [by_transformers(family.model, batch) for batch in batches()]
    assert list(greedily(decoder, family.model, batches())) == expected
    for batch in batches():
        generation = settings(family.model, num_beams=4, max_length=40)
        found = by_graphs(decoder, batch, lambda rows, how=generation: beam_search(decoder, rows, how, 4))
        assert found == by_transformers(family.model, batch, num_beams=4, max_length=40)


def test_every_attention_is_one_node_but_the_encoders_of_t5(family: Exported) -> None:
    t5 = type(family.model).__name__.startswith("T5")
    assert family.fused == ({"encoder": 0, "decoder": 1} if t5 else {"encoder": 1, "decoder": 2})


@pytest.mark.parametrize(
    "options", [{"length_penalty": 2.0}, {"length_penalty": 0.2, "early_stopping": True}]
)
def test_beams_are_those_of_transformers(family: Exported, options: dict[str, Any]) -> None:
    wanted = {"num_beams": 4, **options}
    decoder = family.decoder()
    for batch in batches():
        expected = by_transformers(family.model, batch, **wanted)
        generation = settings(family.model, **wanted)
        found = by_graphs(decoder, batch, lambda rows, how=generation: beam_search(decoder, rows, how, 4))
        assert found == expected


def test_two_layers_each_are_kept_apart(marian: Any, dense_translator: Package) -> None:
    """The package of a whole export stage: greedy and with beams."""
    whole = Exported(model=marian, folder=dense_translator.folder, plain=dense_translator.folder, fused={})
    decoder = whole.decoder()
    expected = [by_transformers(marian, batch) for batch in batches()]
    check_varied([row for rows in expected for row in rows])
    assert list(greedily(decoder, marian, batches())) == expected
    for batch in batches():
        generation = settings(marian, num_beams=4, length_penalty=0.6)
        found = by_graphs(decoder, batch, lambda rows, how=generation: beam_search(decoder, rows, how, 4))
        assert found == by_transformers(marian, batch, num_beams=4, length_penalty=0.6)


def test_a_decoder_of_two_layers_has_one_node_for_each_attention(dense_translator: Package) -> None:
    graphs = {
        role: onnx.load(dense_translator.folder / f"{role}.onnx").graph for role in ("encoder", "decoder")
    }
    kinds = {role: [node.op_type for node in graph.node] for role, graph in graphs.items()}
    assert kinds["encoder"].count("Attention") == 2
    assert kinds["decoder"].count("MultiHeadAttention") == 2
    assert kinds["decoder"].count("GroupQueryAttention") == 2
    assert "Softmax" not in {*kinds["encoder"], *kinds["decoder"]}
    assert kinds["decoder"].count("Transpose") == 1, "of the table, which the head reads too"
    of_tokens = [list(each.dims) for each in graphs["decoder"].initializer if 87 in each.dims]
    assert of_tokens == [[87], [32, 87]], "the bias of the logits, and the table once"


def test_query_key_and_value_are_one_product_where_tokens_come_one_by_one(dense_translator: Package) -> None:
    """Of eight products a layer three are one; the encoder reads many tokens, where that is slower."""
    kinds = {
        role: [node.op_type for node in onnx.load(dense_translator.folder / f"{role}.onnx").graph.node]
        for role in ("encoder", "decoder")
    }
    assert kinds["decoder"].count("MatMul") == 2 * (8 - 2) + 1
    assert "Split" not in kinds["decoder"], "the attention takes the product whole"
    assert kinds["encoder"].count("MatMul") == 2 * (6 + 2)
    assert "Split" not in kinds["encoder"]
