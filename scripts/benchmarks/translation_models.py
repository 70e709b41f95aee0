"""Models for ``translation.py``: one of OPUS-MT's shape with random weights, and what others make of one."""

from __future__ import annotations

from pathlib import Path

VOCABULARY = 58101
SPECIAL = ("</s>", "<unk>")  # the first ids, as OPUS-MT has them; <pad> is the last


def write_opus_shape(folder: Path, seed: int = 0) -> None:
    """A Hugging Face folder of OPUS-MT's shape: 6 + 6 layers of 512, a vocabulary of 58101, random weights.

    How fast a model is does not depend on what it has learned. The tokenizer only knows that token n is
    called ``tn``: enough to be converted, and to be asked for the ids of a text like ``t17 t300``.
    """
    import torch
    from transformers import MarianConfig, MarianMTModel

    pad = VOCABULARY - 1
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        activation_function="swish",
        max_position_embeddings=512,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        bos_token_id=0,
        eos_token_id=0,
        forced_eos_token_id=0,
    )
    torch.manual_seed(seed)
    MarianMTModel(config).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)


def write_recipe(folder: Path, keep: float, vocabulary: str) -> Path:
    """A recipe that makes a package of the model, all matrices at the same share, without tuning.

    Args:
        folder: Of the model; the recipe and its few texts are written next to it.
        keep: Share of the parameters.
        vocabulary: Precision of the vocabulary: ``int8`` or ``int4``.
    """
    rows = [" ".join(f"t{2 + (17 * row + 31 * word) % 50_000}" for word in range(12)) for row in range(64)]
    texts = folder.with_name("opus-shape.tsv")
    texts.write_text("".join(f"{row}\t{row} t9\n" for row in rows), encoding="utf-8")
    path = folder.with_name(f"opus-{keep:.2f}-{vocabulary}.yaml")
    path.write_text(
        f"""edgelr: 1
name: opus-{keep:.2f}-{vocabulary}
task:
  type: translation
  max_tokens: 64
  data: {{source: file, path: {texts.name}, train: 8, validation: 4, test: 4}}
model: {{path: {folder.name}}}
compress:
  keep: {{parameters: {keep}}}
  factors: whitened
  allocate: uniform
  vocabulary: true
  groups: []
  rank_multiple: 32
  calibration: {{examples: 16, sensitivity_examples: 0}}
quantize:
  scheme: weight-int4
  layers:  # what runs on all tokens of a text at once
    encoder.layers.*: int8-dynamic
    decoder.layers.*.encoder_attn.[kv]_proj*: int8-dynamic
  vocabulary: {vocabulary}
  min_cosine: 0.01
validate: {{devices: [cpu-1t], tokens: [20], seconds: 1}}
""",
        encoding="utf-8",
    )
    return path


def convert(folder: Path, out: Path) -> None:
    """Convert a Hugging Face folder to CTranslate2's int8, over what is in ``out``."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder)).convert(str(out), quantization="int8", force=True)


def write_plain_int8(folder: Path, package: Path, out: Path) -> None:
    """A package as one gets it without edgelr: torch's export as it is, ``quantize_dynamic`` as it is.

    Args:
        folder: The dense model, in Hugging Face's layout.
        package: A package of the same model: its tokenizer, its texts and its settings are taken.
        out: A new folder.
    """
    import shutil

    from onnxruntime.quantization import quantize_dynamic
    from onnxscript.optimizer import optimize

    from edgelr.examples import Translation
    from edgelr.export.convert import convert
    from edgelr.export.graphs import matrix_count, traced_form
    from edgelr.export.tidy import tidy
    from edgelr.lowrank.graph_file import write_graph
    from edgelr.runtime.examples import folder_examples
    from edgelr.runtime.graph import describe_graph
    from edgelr.runtime.package import open_package, seal_package
    from edgelr.tasks import translation
    from edgelr.tasks.task import Reading

    known = open_package(package)
    out.mkdir(parents=True)
    for name in known.files:
        if not name.endswith((".onnx", ".data")):
            shutil.copyfile(package / name, out / name)
    model = translation.load_model(folder)
    reading = Reading(folder=folder, max_tokens=int(known.settings["max_tokens"]))
    for spec in translation.graphs(model, reading, folder_examples(package, Translation)):
        graph = convert(spec, traced_form(spec.module), opset=20)
        optimize(graph)
        fp32 = out / f"{spec.role}.fp32.onnx"
        write_graph(tidy(graph, spec, matrix_count(spec.module, spec.idle)), fp32)
        quantize_dynamic(fp32, out / f"{spec.role}.onnx")
        fp32.unlink()
    seal_package(
        out,
        name=f"{known.name}-plain",
        task=known.task,
        graphs={role: describe_graph(out / f"{role}.onnx") for role in known.graphs},
        precision="int8-dynamic",
        cost=known.cost,
        settings=known.settings,
        source=known.source,
        gates=(),
        accuracy={},
    )


def _tokenizer():  # noqa: ANN202 - transformers is imported inside
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *(f"t{number}" for number in range(len(SPECIAL), VOCABULARY - 1)), "<pad>"]
    inner = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    inner.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_max_length=512
    )
