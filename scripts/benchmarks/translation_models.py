"""Models for ``translation.py``: one of OPUS-MT's shape with random weights, and what others make of one."""

from __future__ import annotations

from pathlib import Path

VOCABULARY = 58101
# 0.30 of the numbers. Where uniform ranks at ``keep: {parameters: 0.35}`` give every attention two factors of
# rank 96, it has 24 of its 64 channels a head; the vocabulary has rank 128, not 160.
HEAD_CHANNELS, FEED_FORWARD_RANK, VOCABULARY_RANK = 24, 128, 128
IN_INT8 = {  # what runs on all tokens of a text at once
    "encoder.layers.*": "int8-dynamic",
    "decoder.layers.*.encoder_attn.[kv]_proj*": "int8-dynamic",
}
# A rank of 128 is one block then; blocks of 32 take a fifth longer at one thread.
BLOCKS = {"scheme": "weight-int4", "vocabulary": "int4", "block_size": 128}
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


def write_small_heads(folder: Path, package: Path, out: Path) -> None:
    """A package whose attention heads are smaller, with two factors for all else, of random numbers.

    Which heads a plan makes smaller depends on what a model has learned; how fast they are does not.

    Args:
        folder: The dense model, in Hugging Face's layout.
        package: A package of the same model: its texts are taken.
        out: A new folder.
    """
    import tempfile

    import torch

    from edgelr.artifacts import SPLITS, Source
    from edgelr.examples import Translation, write_examples
    from edgelr.export.label import Label
    from edgelr.export.stage import export
    from edgelr.lowrank.checkpoint import save_factored
    from edgelr.lowrank.reduce import restructure
    from edgelr.progress import Progress
    from edgelr.quantize.stage import quantize
    from edgelr.recipe.quantize import Quantize
    from edgelr.recipe.schema import Export
    from edgelr.recipe.tasks import Translate
    from edgelr.runtime.examples import folder_examples
    from edgelr.tasks import translation

    model = translation.load_model(folder)
    reductions = _small_heads(model)
    restructure(model, reductions)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in (each for each in model.parameters() if each.ndim == 2):
            parameter.normal_(0, parameter.shape[1] ** -0.5)
    examples = folder_examples(package, Translation)
    data = {"source": "file", "path": "opus-shape.tsv"}
    task = Translate.model_validate({"type": "translation", "data": data, "max_tokens": 64})
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for split in SPLITS:
            write_examples(home / "data" / f"{split}.jsonl", examples)
        source = Source(
            folder=home,
            model_folder=folder,
            fingerprint="0" * 64,
            title=folder.name,
            license=None,
            counts={split: len(examples) for split in SPLITS},
        )
        factored = save_factored(model, home / "factored", reductions=reductions, method="random")
        (home / "fp32").mkdir()
        label, progress = Label(name=out.name, task=task, macs=0), Progress()
        written = export(source, factored, label, Export(), home / "fp32", progress)
        settings = {**BLOCKS, "layers": IN_INT8, "min_cosine": 0.01}
        quantize(written, Quantize.model_validate(settings), out, progress)


def _small_heads(model):  # noqa: ANN001, ANN202 - torch and transformers are imported inside
    from edgelr.structure import Reduction

    config, table = model.config, "model.shared"
    tied = ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")
    found = [Reduction(form="low-rank", sites=(table,), rank=VOCABULARY_RANK, shared=tied)]
    for name, _ in model.named_modules():
        if name.endswith(("self_attn", "encoder_attn")):
            q, k, v, out = (f"{name}.{part}_proj" for part in ("q", "k", "v", "out"))
            size = {"rank": HEAD_CHANNELS, "heads": config.decoder_attention_heads}
            found.append(Reduction(form="query-key", sites=(q, k), **size))
            found.append(Reduction(form="value-output", sites=(v, out), **size))
        elif name.endswith((".fc1", ".fc2")):
            found.append(Reduction(form="low-rank", sites=(name,), rank=FEED_FORWARD_RANK))
    return found


def tune(
    folder: Path, threads: tuple[int, ...], lengths: tuple[int, ...], seconds: float
) -> dict[str, dict[str, str]]:
    """Find the session settings that make a package fastest, and write them into it, by stage sessions.

    Args:
        folder: The package.
        threads: Each a device of its own, as ``translation_worker.py`` calls them.
        lengths: Tokens of the sentences.
        seconds: Measuring time a device.

    Returns:
        Device -> setting -> value.
    """
    import tempfile

    from translation_worker import device_with

    from edgelr.artifact_files import read_json, write_json
    from edgelr.progress import Progress
    from edgelr.runtime.package import SESSION, open_package
    from edgelr.sessions.stage import tune_sessions

    devices = [device_with(count, spinning=False) for count in threads]
    with tempfile.TemporaryDirectory() as home:
        packages = {"candidate": open_package(folder)}
        found = tune_sessions(packages, devices, lengths, seconds, Path(home) / "s", Progress())
    tuned = {device.name for device in devices}
    known = read_json(folder / SESSION) if (folder / SESSION).is_file() else {}
    others = {name: entries for name, entries in known.items() if name not in tuned}
    write_json(folder / SESSION, {**others, **found.of("candidate")})
    return found.of("candidate")


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
