"""A real package of a few KiB: a WordLevel tokenizer; a graph of an embedding table, a layer and pooling."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from once import MakeOnce, once_in
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from edgelr.artifacts import Cost, Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.examples import Example, Translation, write_examples
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.graph import describe_graph
from edgelr.runtime.package import open_package, seal_package
from edgelr.runtime.text import batch_tokens, embed, embedding, load_tokenizer, write_index

pytest_plugins = ["classifiers", "generation_fixtures", "recommendation_fixtures", "speech_fixtures"]

# Models of these tests are tiny: two threads mostly wait for each other, long on a busy machine. Set before
# torch is imported; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

DIM = 16
MAX_TOKENS = 32
TOPICS = {
    "shutil.copy": ("copy a file", "Copy data and mode bits of one file to another place."),
    "os.remove": ("delete a file", "Remove the path; raise an error when it is a directory."),
    "json.loads": ("read json text", "Deserialize a document in a string to a Python object."),
    "random.shuffle": ("shuffle a list", "Put the items of a sequence in random order in place."),
    "math.sqrt": ("square root", "Return the number which multiplied by itself gives x."),
    "time.sleep": ("wait some seconds", "Delay execution of the calling thread for a given time."),
    "zlib.crc32": ("checksum of bytes", "Compute a cyclic redundancy check of data."),
    "socket.bind": ("bind to an address", "Attach the endpoint to a local host and port."),
    "csv.reader": ("parse csv rows", "Iterate over lines of a delimited table."),
    "heapq.heappop": ("smallest item of a heap", "Pop the least element and keep the invariant."),
    "re.compile": ("compile a pattern", "Make a regular expression for later matching."),
    "queue.Queue": ("queue between threads", "A first in first out channel that locks."),
}
EXAMPLES = tuple(
    Example(id=name, group=name.split(".")[0], query=query, passage=passage)
    for name, (query, passage) in TOPICS.items()
)


def write_tokenizer(path: Path) -> None:
    words = sorted({word for pair in TOPICS.values() for text in pair for word in _words(text)})
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer.save(str(path))


def _words(text: str) -> list[str]:
    return [word for word, _ in Whitespace().pre_tokenize_str(text)]


def write_graph(path: Path, vocabulary: int, *, noise: float = 0.0, scale: float = 1.0) -> None:
    """Table -> masked mean -> one layer -> unit length; ``noise`` is relative, ``scale`` may break it."""
    draw = np.random.default_rng(0)
    table = draw.normal(size=(vocabulary, DIM))
    layer = np.linalg.qr(draw.normal(size=(DIM, DIM)))[0]
    table = (table + noise * draw.normal(size=table.shape)) * scale
    weights = {
        "table": table.astype(np.float32),
        "layer": layer.astype(np.float32),
        "last": np.array([-1], np.int64),
        "tokens_axis": np.array([1], np.int64),
        "floor": np.array(1e-9, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["flat_mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["vectors", "mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens_axis"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens_axis"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "floor"], ["safe_count"]),
        helper.make_node("Div", ["total", "safe_count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "layer"], ["mixed"]),
        helper.make_node("ReduceL2", ["mixed", "last"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "floor"], ["safe_norm"]),
        helper.make_node("Div", ["mixed", "safe_norm"], ["embedding"]),
    ]
    ids = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"])
        for n in ("input_ids", "attention_mask")
    ]
    out = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny", ids, out, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def write_reference(folder: Path, device: Device) -> None:
    """The outputs of the noiseless graph, here in the place of torch's."""
    tokenizer = load_tokenizer(folder / "tokenizer.json", MAX_TOKENS)
    dense = folder / "dense.onnx"
    write_graph(dense, tokenizer.get_vocab_size())
    session = open_session(dense, device, entries={})
    queries = [example.query or "" for example in EXAMPLES]
    passages = [example.passage for example in EXAMPLES]
    arrays: dict[str, Any] = {
        "dense_queries": embed(session, tokenizer, queries).astype(np.float16),
        "dense_passages": embed(session, tokenizer, passages).astype(np.float16),
    }
    for case, texts in enumerate(
        ([queries[0], passages[0]], [passages[1]], [queries[2], " ".join(passages), passages[3]])
    ):
        feeds = batch_tokens(tokenizer, texts)
        arrays |= {f"{name}.{case}": array for name, array in feeds.items()}
        arrays[f"embedding.{case}"] = embedding(session, feeds)
    write_arrays(folder / "reference.npz", arrays)
    dense.unlink()


def write_files(folder: Path, device: Device, *, noise: float = 0.0, scale: float = 1.0) -> None:
    """Everything of a package but its manifest."""
    folder.mkdir(parents=True)
    write_tokenizer(folder / "tokenizer.json")
    write_examples(folder / "examples.jsonl", EXAMPLES)
    vocabulary = load_tokenizer(folder / "tokenizer.json", MAX_TOKENS).get_vocab_size()
    write_graph(folder / "model.onnx", vocabulary, noise=noise, scale=scale)
    write_reference(folder, device)
    write_index(folder, max_tokens=MAX_TOKENS, device=device)


def seal(
    folder: Path,
    *,
    precision: str = "fp32",
    task: str = "sentence-embedding",
    variants: tuple[str, ...] = (),
) -> Package:
    return seal_package(
        folder,
        name="tiny",
        task=task,
        graphs={"model": describe_graph(folder / "model.onnx")},
        precision=precision,
        cost=Cost(parameters=1000, bytes=0, macs=256),
        settings={"max_tokens": MAX_TOKENS},
        source={"title": "tiny", "fingerprint": "0" * 64},
        gates=({"metric": "mrr@10", "max_drop": 0.01},),
        accuracy={},
        variants=variants,
    )


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """``make_once("model", fill)``: the folder that ``fill`` filled, once in a run; only read it."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    home.mkdir(exist_ok=True)
    return once_in(home)


@pytest.fixture(scope="session")
def cpu() -> Device:
    """The profile cpu-1t."""
    return load_devices()["cpu-1t"]


@pytest.fixture(scope="session")
def write_package(cpu: Device) -> Callable[..., Package]:
    """Build a tiny package in a new folder: ``write_package(folder, noise=0.1, precision="fp32")``."""

    def write(folder: Path, *, precision: str = "fp32", noise: float = 0.0, scale: float = 1.0) -> Package:
        write_files(folder, cpu, noise=noise, scale=scale)
        return seal(folder, precision=precision)

    return write


@pytest.fixture
def make_package(tmp_path: Path, write_package: Callable[..., Package]) -> Callable[..., Package]:
    """The same by name, in the test's own folder: ``make_package("name", noise=0.1)``."""
    return lambda name="package", **options: write_package(tmp_path / name, **options)


@pytest.fixture
def reseal() -> Callable[..., Package]:
    """Seal a package again after its files were changed on purpose."""
    return seal


@pytest.fixture
def varied(make_package: Callable[..., Package]) -> Package:
    """A package for processors, and in its folder ``npu`` a variant for what takes 16-bit activations."""
    folder = make_package("varied", precision="int8-dynamic").folder
    make_package("varied/npu", precision="a16w8", noise=0.1)
    return seal(folder, precision="int8-dynamic", variants=("npu",))


@pytest.fixture
def npu(cpu: Device) -> Device:
    """A device that accepts the variant, and not the package that it is in."""
    return replace(cpu, name="npu", accepts=("a16w8",))


# --- a tiny real model and data of one's own, for the torch half and for whole builds -------------------

VERBS = ("copy", "remove", "open", "close", "sort", "merge", "count", "print", "encrypt", "compress")
NOUNS = ("file", "folder", "list", "table", "socket", "thread", "image", "string", "number", "archive")


@pytest.fixture(scope="session")
def pairs_file(make_once: MakeOnce) -> Path:
    """100 pairs in ten groups, as a user would bring them."""
    return make_once("pairs", lambda folder: write_pairs(folder / "pairs.jsonl")) / "pairs.jsonl"


def write_pairs(path: Path) -> None:
    rows = [
        {
            "id": f"{noun}.{verb}",
            "group": f"{noun}s-{number % 4}",
            "query": f"how do I {verb} a {noun}",
            "passage": f"To {verb} the {noun}, call {noun}_{verb} with its name; it returns the {noun}.",
        }
        for noun in NOUNS
        for number, verb in enumerate(VERBS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_model(make_once: MakeOnce, pairs_file: Path) -> Path:
    """A BERT of two layers with random weights, saved by transformers itself, with its tokenizer."""
    return make_once("tiny-model", lambda folder: write_tiny_model(folder, pairs_file))


def write_tiny_model(folder: Path, pairs_file: Path) -> None:
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train([str(pairs_file)], vocab_size=600, min_frequency=1, show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        initializer_range=0.3,  # at the usual 0.02 all texts have nearly the same vector
    )
    torch.manual_seed(0)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n", encoding="utf-8")


TINY_RECIPE = """\
edgelr: 1
name: tiny
task:
  type: sentence-embedding
  max_tokens: 32
  data: {{source: file, path: {pairs}, train: 40, validation: 10, test: 20}}
model: {{path: {model}}}
compress:
  keep: {{parameters: 0.6}}
  rank_multiple: 4
  calibration: {{examples: 20, sensitivity_examples: 10}}
finetune:
  {{steps: 6, batch: 8, precision: fp32, learning_rate: 1.0e-4, validate_every: 3, checkpoint_every: 2}}
quantize: {{scheme: int8-dynamic, min_cosine: 0.5}}
validate:
  devices: [cpu-1t]
  tokens: [8, 16]
  seconds: 0.5
  gates:
    - {{metric: cosine, min: 0.1}}
"""


@pytest.fixture(scope="session")
def built(make_once: MakeOnce, tiny_model: Path, pairs_file: Path) -> Path:
    """The tiny recipe, built: ``tiny.yaml``, ``tiny/`` and ``.store/``. ``rebuilt`` is a copy."""
    from edgelr.pipeline import build

    def fill(home: Path) -> None:
        recipe = home / "tiny.yaml"
        recipe.write_text(TINY_RECIPE.format(model=tiny_model, pairs=pairs_file), encoding="utf-8")
        build(recipe, home / "tiny")

    return make_once("built", fill)


VARIANT = """\
variants:
  npu:
    export: {operators: plain, shapes: {tokens: [8]}}
    quantize: {scheme: a16w8, min_cosine: 0.5}
"""


@pytest.fixture(scope="session")
def add_variant() -> Callable[[Path], None]:
    """Give a recipe the variant ``npu``, and a profile next to it that takes it on any host: ``phone``."""

    def add(recipe: Path) -> None:
        recipe.write_text(recipe.read_text(encoding="utf-8") + VARIANT, encoding="utf-8")
        text = (Path(__file__).parents[1] / "devices" / "ios-coreml.yaml").read_text(encoding="utf-8")
        profile = re.sub(r"accepts:.*", "accepts: [a16w8]", text.replace("name: ios-coreml", "name: phone"))
        (recipe.parent / "devices").mkdir()
        (recipe.parent / "devices" / "phone.yaml").write_text(profile, encoding="utf-8")

    return add


@pytest.fixture
def rebuilt(built: Path, tmp_path: Path) -> Path:
    """A copy of the built folder to break and to build again."""
    return Path(shutil.copytree(built, tmp_path / "built"))


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_model: Path, pairs_file: Path) -> Path:
    """A whole recipe that builds in seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE.format(model=tiny_model, pairs=pairs_file), encoding="utf-8")
    return path


# --- a tiny Marian with random weights as a translation package ----------------------------------------

TRANSLATION_MAX_TOKENS = 48
LAYERS = 2


def write_pieces(path: Path, lines: list[str], **options: Any) -> list[str]:
    """Train a SentencePiece model, and return its pieces without the special ones."""
    import sentencepiece

    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=220,
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    return [piece for piece in pieces if piece not in {"<s>", "</s>", "<unk>"}]


@pytest.fixture(scope="session")
def text_lines() -> list[str]:
    """Real English that stays as it is: with other words, models of random weights would say other things."""
    text = (Path(__file__).parent.parent / "LICENSE").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="session")
def write_sentence_pieces() -> Callable[..., list[str]]:
    """``write_sentence_pieces(path, lines, model_type="bpe")`` trains a model and gives its pieces."""
    return write_pieces


@pytest.fixture(scope="session")
def odd_texts(text_lines: list[str]) -> list[str]:
    """Lines of real text, and what a tokenizer may stumble over."""
    odd = [
        "",
        " ",
        "   ",
        "\t\n",
        "\0",
        "a\0b",
        "\ufffd",
        "\ufeffx",
        "  two  spaces  ",
        "no\u00a0break",
        "\u2028x",
    ]
    odd += [
        "\N{GRINNING FACE}\N{UPSIDE-DOWN FACE}",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467 x",
        "e\u0301 \u00e9",
    ]
    odd += ["\u65e5\u672c\u8a9e \u0440\u0443\u0441 \u0395\u03bb \u0639\u0631\u0628", "\ufb01 \u2460 \uff21"]
    odd += [
        "x</s>y",
        "</s>",
        "<pad> <unk> <s> x",
        ">>fra<< a file",
        " >>fra<< x",
        ">>xyz<<x",
        "a >>fra<<",
        ">> a << b",
    ]
    odd += [
        "<extra_id_0> x",
        "\u2581a\u2581",
        "a file " * 714 + "xx",
        "y" * 5000,
        "\u65e5" * 5000,
        "a , b . n't",
    ]
    return [*text_lines[:60], *odd]


@pytest.fixture(scope="session")
def marian_tokenizer(
    make_once: MakeOnce, tmp_path_factory: pytest.TempPathFactory, text_lines: list[str]
) -> Path:
    """The files of a multilingual MarianTokenizer, saved by transformers itself."""
    raw = tmp_path_factory.mktemp("marian-raw")
    return make_once("marian-tokenizer", lambda folder: write_marian_tokenizer(folder, raw, text_lines))


def write_marian_tokenizer(folder: Path, raw: Path, text_lines: list[str]) -> None:
    from transformers import MarianTokenizer

    pieces = write_pieces(raw / "source.spm", text_lines)
    pieces += write_pieces(raw / "target.spm", [line.swapcase()[::-1] for line in text_lines])
    tokens = dict.fromkeys(["</s>", "<unk>", *pieces, ">>fra<<", ">>deu<<", "<pad>"])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (raw / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    files = (str(raw / name) for name in ("source.spm", "target.spm", "vocab.json"))
    MarianTokenizer(*files, source_lang="en", target_lang="fr").save_pretrained(folder)


@pytest.fixture(scope="session")
def m2m_tokenizer(tmp_path_factory: pytest.TempPathFactory, text_lines: list[str]) -> Path:
    """The files of an M2M100Tokenizer as the hub has them, with the languages among its special tokens."""
    from transformers import M2M100Tokenizer
    from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

    raw = tmp_path_factory.mktemp("m2m-raw")
    pieces = write_pieces(raw / "sentencepiece.bpe.model", text_lines, model_type="bpe")
    tokens = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *pieces])
    (raw / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    languages = [f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]]
    tokenizer = M2M100Tokenizer(
        str(raw / "vocab.json"),
        str(raw / "sentencepiece.bpe.model"),
        src_lang="en",
        additional_special_tokens=languages,
    )
    folder = tmp_path_factory.mktemp("m2m")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def marian_model(marian_tokenizer: Path) -> Any:
    """A MarianMTModel of two layers with random weights."""
    import torch
    from transformers import GenerationConfig, MarianConfig, MarianMTModel

    vocabulary = len(json.loads((marian_tokenizer / "vocab.json").read_text(encoding="utf-8")))
    config = MarianConfig(
        vocab_size=vocabulary,
        d_model=32,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        pad_token_id=vocabulary - 1,
        eos_token_id=0,
        decoder_start_token_id=vocabulary - 1,
        init_std=0.8,
        tie_word_embeddings=False,  # a model that shares them repeats its last token for ever
    )
    torch.manual_seed(11)  # six texts become six different ones, long and short
    model = MarianMTModel(config).eval()
    model.set_attn_implementation("eager")
    model.lm_head.weight = torch.nn.Parameter(torch.randn(vocabulary, 32) * 0.4)
    model.final_logits_bias[0, 0] = 3.0  # so that some sequences end
    model.generation_config = GenerationConfig(
        decoder_start_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        eos_token_id=0,
        forced_eos_token_id=0,
        bad_words_ids=[[vocabulary - 1]],
        max_length=20,
        num_beams=4,
        renormalize_logits=True,
    )
    return model


def export_marian(model: Any, folder: Path) -> None:
    """Write ``encoder.onnx`` and ``decoder.onnx`` by the contract of ``edgelr.runtime.decoder_graph``."""
    import torch
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    def bias_of(mask: Any) -> Any:
        return (1.0 - mask[:, None, None, :].to(torch.float32)) * -1.0e9

    def flat(cache: Any) -> tuple[Any, ...]:
        return tuple(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            bias = bias_of(attention_mask)
            states = self.model.get_encoder()(input_ids=input_ids, attention_mask=bias)[0]
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            self.model.get_decoder()(
                input_ids=input_ids[:, :1],
                attention_mask=torch.zeros(1, 1, 1, 1),
                encoder_hidden_states=states,
                encoder_attention_mask=bias,
                past_key_values=cache,
                use_cache=True,
            )
            return flat(cache.cross_attention_cache)

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, past: Any, cross: Any) -> Any:
            own, other = DynamicCache(), DynamicCache()
            for layer in range(LAYERS):
                own.update(past[2 * layer], past[2 * layer + 1], layer)
                other.update(cross[2 * layer], cross[2 * layer + 1], layer)
            cache = EncoderDecoderCache(own, other)
            for layer in range(LAYERS):
                cache.is_updated[layer] = True
            found = self.model(
                decoder_input_ids=input_ids,
                decoder_attention_mask=torch.zeros(1, 1, 1, 1),
                encoder_outputs=(torch.zeros(input_ids.shape[0], attention_mask.shape[1], 32),),
                attention_mask=bias_of(attention_mask),
                past_key_values=cache,
                use_cache=True,
            )
            return (found.logits, *flat(cache.self_attention_cache))

    ids, mask = torch.randint(2, 40, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    past, cross = ([torch.randn(2, 2, length, 16) for _ in range(2 * LAYERS)] for length in (3, 7))
    past_names, cross_names, present_names = (
        [f"{what}_{part}_{layer}" for layer in range(LAYERS) for part in ("key", "value")]
        for what in ("past", "cross", "present")
    )
    batch, source, length = (torch.export.Dim(name, max=4096) for name in ("batch", "source", "past"))
    options: dict[str, Any] = {"dynamo": True, "opset_version": 20, "verbose": False, "external_data": False}
    torch.onnx.export(
        Encoder().eval(),
        (ids, mask),
        folder / "encoder.onnx",
        dynamic_shapes=({0: batch, 1: source},) * 2,
        input_names=["input_ids", "attention_mask"],
        output_names=cross_names,
        **options,
    )
    torch.onnx.export(
        Decoder().eval(),
        (ids[:, :1], mask, past, cross),
        folder / "decoder.onnx",
        dynamic_shapes=(
            {0: batch},
            {0: batch, 1: source},
            [{0: batch, 2: length} for _ in past],
            [{0: batch, 2: source} for _ in cross],
        ),
        input_names=["input_ids", "attention_mask", *past_names, *cross_names],
        output_names=["logits", *present_names],
        **options,
    )


@pytest.fixture(scope="session")
def translation_files(make_once: MakeOnce, marian_tokenizer: Path, marian_model: Any) -> Path:
    """Everything of a translation package but its manifest."""
    from edgelr.runtime.generation import generation_of, write_generation

    def fill(folder: Path) -> None:
        shutil.copytree(marian_tokenizer, folder, dirs_exist_ok=True)
        export_marian(marian_model, folder)
        write_generation(folder, generation_of(marian_model.generation_config.to_dict()))

    return make_once("translation-files", fill)


@pytest.fixture(scope="session")
def masked_files(translation_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same files, with a decoder in plain operators whose cache is a buffer under a mask."""
    import onnx
    import onnx_ir

    from edgelr.export.fuse import fuse_attention
    from edgelr.export.in_place import keep_caches_in_place
    from edgelr.export.plain import write_plainly

    folder = tmp_path_factory.mktemp("masked") / "files"
    shutil.copytree(translation_files, folder)
    graph = onnx_ir.load(folder / "decoder.onnx")
    fuse_attention(graph)
    proto = onnx_ir.to_proto(graph)
    assert keep_caches_in_place(proto) == LAYERS
    assert write_plainly(proto) == 2 * LAYERS
    for number, node in enumerate(proto.graph.node):
        node.name = node.name or f"node {number}"
    onnx.save(proto, folder / "decoder.onnx")
    return folder


def seal_translation(folder: Path, **settings: int | str) -> Package:
    return seal_package(
        folder,
        name="tiny-translation",
        task="translation",
        graphs={role: describe_graph(folder / f"{role}.onnx") for role in ("encoder", "decoder")},
        precision="fp32",
        cost=Cost(parameters=1000, bytes=0, macs=256),
        settings={"max_tokens": TRANSLATION_MAX_TOKENS, **settings},
        source={"title": "tiny", "fingerprint": "0" * 64},
        gates=(),
        accuracy={},
    )


@pytest.fixture
def reseal_translation() -> Callable[..., Package]:
    """``reseal_translation(folder, prefix="x")`` seals it again after its files were changed."""
    return seal_translation


@pytest.fixture
def translation_package(tmp_path: Path, translation_files: Path) -> Package:
    """A translation package of the test's own."""
    return seal_translation(Path(shutil.copytree(translation_files, tmp_path / "translation")))


# --- a tiny Marian folder and its data, for the torch half of the task and for whole builds ------------

ENGLISH = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
GERMAN = ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn")


def number_pairs() -> list[tuple[str, str]]:
    """Some 150 different pairs of one to eight numbers, said in two languages."""
    draw = np.random.default_rng(0)
    rows = [draw.integers(len(ENGLISH), size=draw.integers(1, 9)) for _ in range(160)]
    said = [" ".join(words[number] for number in row) for row in rows for words in (ENGLISH, GERMAN)]
    return list(dict.fromkeys(zip(said[::2], said[1::2], strict=True)))


def number_tokenizer(texts: list[str]) -> Any:
    """A BPE in a ``tokenizer.json``: ``</s>`` is 0, ``<unk>`` 1, and ``<pad>`` the last one."""
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=89, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(["<pad>"])
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


@pytest.fixture(scope="session")
def tiny_translator(make_once: MakeOnce) -> Path:
    """A Marian of two and two layers with random weights, saved by transformers itself, and ``pairs.tsv``."""
    return make_once("tiny-translator", write_tiny_translator)


def write_tiny_translator(folder: Path) -> None:
    import torch
    from transformers import GenerationConfig, MarianConfig, MarianMTModel

    pairs = number_pairs()
    tokenizer = number_tokenizer([text for pair in pairs for text in pair])
    pad = tokenizer.pad_token_id
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        pad_token_id=pad,
        eos_token_id=0,
        bos_token_id=None,
        decoder_start_token_id=pad,
        scale_embedding=True,
        activation_function="swish",
        init_std=0.3,  # at the usual 0.02 all texts have nearly the same translation
    )
    torch.manual_seed(2)
    model = MarianMTModel(config).eval()
    with torch.no_grad():
        # Its head is its embedding: without other signs here every token would be followed by itself.
        model.model.decoder.layers[-1].final_layer_norm.weight.copy_(torch.randn(32))
        model.final_logits_bias[0, 0] = 1.0  # so that some translations end
    model.generation_config = GenerationConfig(
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
        pad_token_id=pad,
        bad_words_ids=[[pad]],
        max_length=64,
        num_beams=4,
        no_repeat_ngram_size=2,  # or random weights would say one thing over and over
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n", encoding="utf-8")
    lines = "".join(f"{source}\t{target}\n" for source, target in pairs)
    (folder / "pairs.tsv").write_text(lines, encoding="utf-8")


@pytest.fixture(scope="session")
def translations(tiny_translator: Path) -> tuple[Translation, ...]:
    """The pairs of ``tiny_translator`` as examples."""
    lines = (tiny_translator / "pairs.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    return tuple(
        Translation(id=f"pair-{number}", group=source, source=source, target=target)
        for number, (source, target) in enumerate(pairs)
    )


@pytest.fixture(scope="session")
def translator_reading(tiny_translator: Path) -> Any:
    """How texts of ``tiny_translator`` become tokens."""
    from edgelr.tasks.task import Reading

    return Reading(folder=tiny_translator, max_tokens=TRANSLATION_MAX_TOKENS)


def export_translator(
    home: Path, model: Path, tested: tuple[Translation, ...], operators: Literal["fused", "plain"]
) -> Package:
    """Run the stage on a folder of a model: the dense package, fp32."""
    from edgelr.artifacts import SPLITS, Source
    from edgelr.export.label import Label
    from edgelr.export.stage import export
    from edgelr.progress import Progress
    from edgelr.recipe.schema import Export
    from edgelr.recipe.tasks import Translate

    for split in SPLITS:
        write_examples(home / "data" / f"{split}.jsonl", tested)
    source = Source(
        folder=home,
        model_folder=model,
        fingerprint="0" * 64,
        title="tiny",
        license="mit",
        counts={split: len(tested) for split in SPLITS},
    )
    data = {"source": "file", "path": "pairs.tsv"}
    settings = {"type": "translation", "data": data, "max_tokens": TRANSLATION_MAX_TOKENS}
    label = Label(name="tiny-translation", task=Translate.model_validate(settings), macs=1000)
    (home / "package").mkdir()
    written = Export(operators=operators)  # type: ignore[call-arg]
    return export(source, None, label, written, home / "package", Progress(quiet=True))


@pytest.fixture(scope="session")
def dense_translator(
    make_once: MakeOnce, tiny_translator: Path, translations: tuple[Translation, ...]
) -> Package:
    """The package of ``tiny_translator``, dense and fp32, by the stage itself; not to be changed."""
    home = make_once(
        "dense-translator",
        lambda folder: export_translator(folder, tiny_translator, translations[:24], "fused"),
    )
    return open_package(home / "package")


@pytest.fixture(scope="session")
def plain_translator(
    make_once: MakeOnce, tiny_translator: Path, translations: tuple[Translation, ...]
) -> Package:
    """``dense_translator`` in plain operators; not to be changed."""
    home = make_once(
        "plain-translator",
        lambda folder: export_translator(folder, tiny_translator, translations[:24], "plain"),
    )
    return open_package(home / "package")
