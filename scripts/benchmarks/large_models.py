"""Peak memory of building a language model whose matrices stay in their files, and of one loaded as a whole.

    python scripts/benchmarks/large_models.py                      # 100 MB in fp32, minutes
    python scripts/benchmarks/large_models.py --megabytes 400

The model is a Llama of random weights in bf16, in several files with an index. Every stage runs in a process
of its own, after a tiny model has been through the same stages there, so that all libraries are loaded; what
is counted is the peak of the resident memory beyond what the process had then. Statistics get half of the
model's bytes, as they do of a model that is larger than 2 GiB. Factors are whitened and sensitivities not
measured: gradients would keep a batch's activations of all layers, more than these weights and either way the
same. The dense model is not exported: ONNX Runtime would load it as a whole.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

RECIPE = """\
edgelr: 1
name: large
task:
  type: text-generation
  max_tokens: 32
  data: {source: file, path: texts.txt, train: 1, validation: 1, test: 4}
model: {path: model}
compress:
  keep: {parameters: 0.25}
  factors: whitened
  allocate: energy
  rank_multiple: 4
  calibration: {examples: 64, sensitivity_examples: 0}
validate: {devices: [cpu-1t], baselines: [], tokens: [8]}
"""
STAGES = ("survey", "compress", "export")
TOKENS = 500


@click.command()
@click.option("--megabytes", default=100, show_default=True, help="of the model, in fp32")
@click.option("--json", "as_json", is_flag=True, help="print one JSON document")
@click.option("--child", type=(Path, str, bool), hidden=True)
def main(megabytes: int, as_json: bool, child: tuple[Path, str, bool] | None) -> None:
    """Measure every stage in both ways, and print a table."""
    if child is not None:
        click.echo(json.dumps(measure(*child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_model(home / "tiny", 64, 1)
        size = write_model(home / "large", 1024 if megabytes >= 400 else 512, megabytes)
        rows = {
            stage: {
                way: in_a_process(home, stage, whole) for way, whole in (("files", False), ("whole", True))
            }
            for stage in STAGES
        }
    if as_json:
        click.echo(json.dumps({"model_bytes": size, "peak_bytes": rows}))
        return
    click.echo(f"| model of {size / 1e6:.0f} MB in fp32 | in its files | loaded whole |\n|---|---|---|")
    for stage, found in rows.items():
        click.echo(f"| {stage} | {found['files'] / 1e6:.0f} MB | {found['whole'] / 1e6:.0f} MB |")


def write_model(home: Path, hidden: int, megabytes: int) -> int:
    """Write a folder with a recipe, its texts and its model; returns the model's bytes in fp32."""
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    home.mkdir()
    text = " ".join(pydoc_data.topics.topics.values())
    sentences = [each for each in re.split(r"(?<=\.)\s+", re.sub(r"\s+", " ", text)) if len(each) > 60]
    (home / "texts.txt").write_text("\n\n".join(dict.fromkeys(sentences[:400])), encoding="utf-8")
    (home / "large.yaml").write_text(RECIPE, encoding="utf-8")
    trained = ByteLevelBPETokenizer()
    special = ["<pad>", "<s>", "</s>"]
    trained.train_from_iterator(sentences, vocab_size=TOKENS, special_tokens=special, show_progress=False)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, **names)
    tokenizer.save_pretrained(home / "model")
    inner = 11 * hidden // 4
    layers = max(1, round((megabytes * 1e6 / 4 - 2 * TOKENS * hidden) / (4 * hidden**2 + 3 * hidden * inner)))
    config = transformers.LlamaConfig(
        vocab_size=trained.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(home / "model", max_shard_size=max(10**6, size // 16))
    return size


def in_a_process(home: Path, stage: str, whole: bool) -> int:
    """What ``measure`` finds in a process that does nothing else."""
    command = [sys.executable, __file__, "--child", str(home), stage, str(whole)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{stage} failed:\n{done.stderr}")
    return int(done.stdout.splitlines()[-1])


def measure(home: Path, stage: str, whole: bool) -> int:
    """Peak memory of one stage, in bytes; those before it are in the store already."""
    from edgelr import pipeline
    from edgelr.survey import subject
    from edgelr.tasks import stored_model
    from edgelr.timing.memory import peak_resident_bytes

    stored_model.LARGEST_SHARE = 1.0 if whole else 0.0
    subject.LIMIT_BYTES = 0
    out = "whole" if whole else "files"
    with tempfile.TemporaryDirectory(dir=home) as other:
        pipeline.build(home / "tiny" / "large.yaml", Path(other) / "out", until=stage)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak_resident_bytes()
    pipeline.build(home / "large" / "large.yaml", home / out / "out", until=stage)
    return peak_resident_bytes() - before


if __name__ == "__main__":
    main()
