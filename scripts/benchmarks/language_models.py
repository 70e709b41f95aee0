r"""How fast packages of a causal language model write at batch 1: dense int8, dense and factored int4.

    python scripts/benchmarks/language_models.py build build/benchmarks/writers    # minutes, 4 GB of memory
    python scripts/benchmarks/language_models.py time build/benchmarks/writers

The model is Llama's shape with 100 million random weights: it writes nonsense at the speed of a trained one.
``dense-int8`` is onnxruntime's ``quantize_dynamic``; ``dense-int4`` and ``factored-int4`` are
edgelr's ``weight-int4``, the latter with every linear layer at half of its parameters and the vocabulary at a
rank of 192. Every side has a process of its own and is timed in turn; a call reads a prompt and writes as
many tokens.
Prints a table, writes JSON.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

KEEP = 0.5
VOCABULARY_RANK = 192
RANK_MULTIPLE = 32
LENGTHS = (32, 128)
SHAPE = {
    "vocab_size": 32_000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


@click.group()
def main() -> None:
    """Build the sides, and time them."""


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
def build(out: Path) -> None:
    """Write the model and its three packages to OUT."""
    from edgelr.progress import Progress
    from edgelr.quantize.stage import quantize
    from edgelr.recipe.quantize import Quantize

    progress, source = Progress(), written_source(out)
    packages = {
        "dense": exported(source, None, out / "dense", progress),
        "factored": exported(source, factored(source, out / "factors"), out / "factored", progress),
    }
    settings = Quantize.model_validate({"scheme": "weight-int4", "min_cosine": 1e-6})
    for name, package in packages.items():
        quantize(package, settings, fresh(out / f"{name}-int4"), progress)
    plain_int8(packages["dense"], out / "dense-int8")


@main.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--seconds", default=90.0, show_default=True, help="Measuring time.")
@click.option("--device", default="cpu-1t", show_default=True)
def time(out: Path, seconds: float, device: str) -> None:
    """Time the packages of OUT, print a table, write OUT/language_models.json."""
    from edgelr.device.host import describe_host, host_state
    from edgelr.device.load import find_device
    from edgelr.progress import Progress
    from edgelr.report.markdown import table
    from edgelr.runtime.package import open_package
    from edgelr.validate.latency import measure_latency

    sides = {name: open_package(out / name) for name in ("dense-int8", "dense-int4", "factored-int4")}
    profile, progress = find_device(device), Progress()
    rows, notes = measure_latency(sides, profile, progress, lengths=LENGTHS, seconds=seconds)
    cells = [
        (
            row.variant,
            f"{sum(file.stat().st_size for file in sides[row.variant].folder.iterdir()) / 1e6:.1f}",
            row.shape,
            f"{row.tokens_per_s:.1f}",
            f"{row.first_token_ms:.1f}",
            f"{row.p50_ms:.0f}",
            f"{row.p90_ms:.0f}",
            f"{row.peak_bytes / 1e6:.0f}",
            row.runs,
        )
        for row in rows
    ]
    heading = ("side", "MB", "prompt", "tokens/s", "first token ms", "p50 ms", "p90 ms", "peak MB", "calls")
    print(table(heading, cells), *notes, sep="\n")
    host = {**describe_host(), **host_state()}
    document = {"host": host, "rows": [asdict(row) for row in rows], "notes": notes}
    (out / "language_models.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def fresh(folder: Path) -> Path:
    """An empty folder in the place of whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def written_source(out: Path) -> Any:  # noqa: ANN401 - a Source, imported late
    """A model with random weights, a tokenizer, and the lines of the license as its texts."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from edgelr.artifact_files import read_source, write_json
    from edgelr.artifacts import SPLITS
    from edgelr.examples import Passage, write_examples

    text = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
    paragraphs = [" ".join(each.split()) for each in text.split("\n\n") if len(each.split()) > 30][:8]
    model, tokenizer = fresh(out / "model"), ByteLevelBPETokenizer()
    special = ["<pad>", "<s>", "</s>"]
    tokenizer.train_from_iterator(paragraphs, vocab_size=1000, special_tokens=special, show_progress=False)
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, **named).save_pretrained(model)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE, **ids)).save_pretrained(model)
    passages = [Passage(id=f"{number}", group="license", text=each) for number, each in enumerate(paragraphs)]
    for split in SPLITS:
        write_examples(out / "source" / "data" / f"{split}.jsonl", passages)
    counts = dict.fromkeys(SPLITS, len(passages))
    described = {"model_folder": str(model), "fingerprint": "0" * 64, "title": "random", "license": None}
    write_json(out / "source" / "source.json", {**described, "counts": counts})
    return read_source(out / "source")


def factored(source: Any, folder: Path) -> Any:  # noqa: ANN401 - Source and Factored
    """The model with random factors of the sizes that a plan would give it."""
    import torch
    from torch import nn

    from edgelr.lowrank.checkpoint import save_factored
    from edgelr.lowrank.reduce import restructure
    from edgelr.structure import Reduction
    from edgelr.tasks.text_generation_model import load_model

    model = load_model(source.model_folder)
    reductions = [
        Reduction(form="low-rank", sites=("model.embed_tokens",), rank=VOCABULARY_RANK, shared=("lm_head",))
    ]
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            out, in_ = module.weight.shape
            rank = int(KEEP * out * in_ / (out + in_)) // RANK_MULTIPLE * RANK_MULTIPLE
            reductions.append(Reduction(form="low-rank", sites=(name,), rank=max(RANK_MULTIPLE, rank)))
    restructure(model, reductions)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.03)  # as small as weights are
    return save_factored(model, fresh(folder), reductions=reductions, method="random")


def exported(source: Any, factors: Any, folder: Path, progress: Any) -> Any:  # noqa: ANN401 - likewise
    """The fp32 package."""
    from edgelr.export.stage import Label, export
    from edgelr.recipe.schema import Export
    from edgelr.recipe.tasks import Generate

    data = {"source": "file", "path": "none.txt"}
    task = Generate.model_validate({"type": "text-generation", "data": data})
    label = Label(name=folder.name, task=task, macs=0)
    return export(source, factors, label, Export(), fresh(folder), progress)  # type: ignore[call-arg]


def plain_int8(package: Any, folder: Path) -> None:  # noqa: ANN401 - a Package
    """The dense package with onnxruntime's own quantizer in its default settings."""
    from onnx import TensorProto
    from onnxruntime.quantization import quantize_dynamic

    from edgelr.runtime.graph import describe_graph
    from edgelr.runtime.package import seal_package

    shutil.copytree(package.folder, fresh(folder), dirs_exist_ok=True)
    # Its shape inference stops at attention, behind which everything is fp32.
    typed = {"DefaultTensorType": TensorProto.FLOAT}
    quantize_dynamic(package.folder / "decoder.onnx", folder / "decoder.onnx", extra_options=typed)
    graph = describe_graph(folder / "decoder.onnx")
    kept = {
        name: getattr(package, name) for name in ("name", "task", "settings", "source", "gates", "accuracy")
    }
    cost = replace(package.cost, bytes=0)
    (folder / "package.json").unlink()
    seal_package(folder, graphs={"decoder": graph}, precision="int8-dynamic", cost=cost, **kept)


if __name__ == "__main__":
    main()
