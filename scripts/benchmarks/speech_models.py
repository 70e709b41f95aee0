"""Models for ``speech.py``: one of whisper-base's shape with random weights, and what is made of one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelr.progress import Progress
from edgelr.runtime.audio import SAMPLE_RATE, write_flac

END = "<|endoftext|>"
START, PLAIN, SILENT = "<|startoftranscript|>", "<|notimestamps|>", "<|nocaptions|>"
LANGUAGES = 99  # of Whisper before its third version
TIMESTAMPS = 1501  # steps of 20 ms; tokens of the model that the tokenizer does not have
SENTENCES = 16
MODEL, SOUNDS = "whisper-shape", "sounds.jsonl"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a Whisper; the defaults are those of whisper-base."""

    width: int = 512
    layers: int = 6
    heads: int = 8
    feed_forward: int = 2048
    vocabulary: int = 51_865
    window_s: int = 30
    rank_multiple: int = 32


TINY = Shape(width=64, layers=2, heads=2, feed_forward=128, vocabulary=2000, rank_multiple=8)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A package to make: ``name`` is also that of its recipe."""

    name: str
    keep: float
    window_s: int | None = None
    scheme: str = "int8-dynamic"
    vocabulary: str | None = None


def write_shape(folder: Path, shape: Shape, seed: int = 0) -> None:
    """A Hugging Face folder of a multilingual Whisper with random weights, and a few sounds next to it.

    How fast a model is does not depend on what it has learned. The tokenizer knows single bytes, tokens that
    nothing becomes, and Whisper's special ones, with the ids that they have: start, languages, tasks and
    ``<|notimestamps|>`` in one row after the end token. CTranslate2 knows by that what is a prompt.
    """
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    tokenizer = _tokenizer(shape)
    end, start, silent, plain = tokenizer.convert_tokens_to_ids([END, START, SILENT, PLAIN])
    special = {"decoder_start_token_id": start, "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config = WhisperConfig(
        vocab_size=shape.vocabulary,
        num_mel_bins=80,
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.feed_forward,
        decoder_ffn_dim=shape.feed_forward,
        max_source_positions=50 * shape.window_s,
        max_target_positions=448,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **special,
    )
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config)
    codes = _languages()
    model.generation_config = GenerationConfig(
        **special,
        max_length=448,
        is_multilingual=True,
        lang_to_id={code: tokenizer.convert_tokens_to_ids(code) for code in codes},
        task_to_id={name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in _TASKS},
        no_timestamps_token_id=plain,
        return_timestamps=False,
        suppress_tokens=list(range(start, plain + 1)),
        prev_sot_token_id=silent - 1,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=shape.window_s).save_pretrained(folder)
    _write_sounds(folder.parent)


_TASKS = ("translate", "transcribe")


def _languages() -> list[str]:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as KNOWN

    return [f"<|{code}|>" for code in list(KNOWN)[:LANGUAGES]]


def _tokenizer(shape: Shape) -> Any:  # noqa: ANN401 - transformers is imported inside
    from tokenizers import pre_tokenizers
    from transformers import WhisperTokenizer

    tasks = [f"<|{name}|>" for name in _TASKS]
    special = [START, *_languages(), *tasks, "<|startoflm|>", "<|startofprev|>", SILENT, PLAIN]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    fillers = range(len(letters), shape.vocabulary - TIMESTAMPS - len(special) - 1)
    names = [*letters, *(f"t{number}" for number in fillers)]
    tokenizer = WhisperTokenizer(
        vocab={name: number for number, name in enumerate(names)},
        merges=[],
        unk_token=END,
        bos_token=END,
        eos_token=END,
        pad_token=END,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    assert len(tokenizer) == shape.vocabulary - TIMESTAMPS
    return tokenizer


def _write_sounds(folder: Path) -> None:
    """Noise that is called sentences: enough to be exported with."""
    draw = np.random.default_rng(0)
    (folder / "sounds").mkdir(exist_ok=True)
    rows = []
    for number in range(SENTENCES):
        name = f"sounds/{number:02}.flac"
        write_flac(folder / name, (0.1 * draw.standard_normal(2 * SAMPLE_RATE)).astype(np.float32))
        rows.append(json.dumps({"audio": name, "text": f"noise {number}"}))
    (folder / SOUNDS).write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_recipe(folder: Path, shape: Shape, variant: Variant) -> Path:
    """A recipe that makes a package of the model, all matrices at the same share, without tuning.

    Args:
        folder: What ``write_shape`` wrote the model's folder into.
        shape: Of the model.
        variant: What to make.
    """
    window = "" if variant.window_s is None else f"  window_s: {variant.window_s}\n"
    vocabulary = "" if variant.vocabulary is None else f"vocabulary: {variant.vocabulary}, "
    path = folder / f"{variant.name}.yaml"
    path.write_text(
        f"""edgelr: 1
name: {variant.name}
task:
  type: automatic-speech-recognition
  data: {{source: file, path: {SOUNDS}, train: 4, validation: 2, test: 3}}
  language: en
  max_tokens: 64
{window}model: {{path: {MODEL}}}
compress:
  keep: {{parameters: {variant.keep}}}
  factors: plain
  allocate: uniform
  vocabulary: true
  exclude: ['*embed_positions*']  # tables too, but not of tokens
  groups: []
  rank_multiple: {shape.rank_multiple}
  calibration: {{examples: 2, sensitivity_examples: 0}}
export: {{tolerance: 0.01}}
quantize: {{scheme: {variant.scheme}, {vocabulary}min_cosine: 0.01}}
validate: {{devices: [cpu-1t]}}
""",
        encoding="utf-8",
    )
    return path


def make_packages(
    folder: Path, shape: Shape, variants: Sequence[Variant], progress: Progress
) -> dict[str, Path]:
    """Run the stages of every variant but the last ones: nothing is validated. What is there is used again.

    Args:
        folder: As of ``write_recipe``.
        shape: Likewise.
        variants: The first one also gives the dense packages.
        progress: Where to show how far it is.

    Returns:
        Name -> package: ``dense-fp32``, ``dense-int8``, and each variant's.
    """
    from edgelr import package_stages, stages
    from edgelr.job import open_job

    found: dict[str, Path] = {}
    for variant in variants:
        job = open_job(write_recipe(folder, shape, variant), folder / variant.name, (), None, progress)
        source = stages.load(job)
        survey = stages.survey_sites(job, source)
        plan = stages.plan_ranks(job, survey)
        factored = stages.compress(job, source, survey, plan)
        exported = stages.export(job, source, factored, plan.artifact.candidate.macs)
        if not found:
            for name, precision in (("dense-fp32", "fp32"), ("dense-int8", "int8-dynamic")):
                found[name] = package_stages.dense_package(job, source, survey, precision).artifact.folder
        # With settings of its own it looks at no data: of random weights, nothing could be learned.
        quantized = package_stages.quantize(job, exported, source, job.recipe.quantize)
        found[variant.name] = quantized.artifact.folder
    return found


def convert(folder: Path, out: Path) -> None:
    """Convert a Hugging Face folder to CTranslate2's int8, over what is in ``out``."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder)).convert(str(out), quantization="int8", force=True)


def window_samples(checkpoint: Path) -> int:
    """Samples of 16 kHz that a checkpoint of Whisper reads at once."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return int(config["max_source_positions"]) * 320


def encoder_share(checkpoint: Path, layers: Sequence[Mapping[str, Any]]) -> float:
    """Parameters of the encoder, after / before; the table of positions is not counted on either side.

    Args:
        checkpoint: The dense model.
        layers: The layer table of a build's ``report.json``.
    """
    from safetensors import safe_open

    whole = 0
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if name.startswith(_ENCODER) and "embed_positions" not in name:
                    whole += int(np.prod(file.get_slice(name).get_shape()))
    sites = [each for each in layers if each["name"].startswith(_ENCODER)]
    saved: float = sum(each["out"] * each["in_"] * (1 - each["kept_share"]) for each in sites)
    return 1 - saved / whole


_ENCODER = "model.encoder."
