"""Train the teacher of ``recipes/cldr-en-de``: a Marian model that says in German what English apps show.

    python scripts/train_translation_teacher.py                  # about 45 minutes on two cores
    python scripts/train_translation_teacher.py --steps 50 --out build/smoke    # does it run at all?

The data are ``edgelr.load.cldr.collect(("en", "de"), 45000)``, split as the recipe splits them (seed 0): its
calibration, validation and test texts were not trained on. The model starts from random numbers. The layout
is that of OPUS-MT's checkpoints: one embedding for both sides and the output, sinusoidal positions, ``<pad>``
as the last id, with a row of zeros, that decoding starts from. Loss: cross entropy with label smoothing; Adam
with warm-up and a linear decay; batches of texts of similar length, of so many tokens with their padding.

Writes the folder in Hugging Face layout (weights in fp16), ``training.log`` and the model card. A killed run
goes on from its last checkpoint (``--work``). One machine makes the same weights of one seed and versions.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Threads that wait give their core away: where another job runs, spinning ones make a step ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import babel
import tokenizers
import torch
import transformers
from babel.core import get_global
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
)

from edgelr.artifacts import Split
from edgelr.examples import Translation
from edgelr.load.cldr import collect
from edgelr.load.splits import split_by_group
from edgelr.progress import Progress

PAIRS = 45_000
COUNTS: dict[Split, int] = {"train": 40_000, "calibration": 512, "validation": 1_000, "test": 2_000}
SEED = 0
VOCABULARY = 4_000
EOS, UNK, PAD = "</s>", "<unk>", "<pad>"
LONGEST = 128  # tokens of a translation
THREADS = 2
SMOOTHING = 0.1
PEAK_RATE, WARMUP = 1e-3, 300
LOG_EVERY, CHECK_EVERY, CHECK_EACH = 100, 500, 4
SHOWN = (
    "April 5, 2031",
    "3 hours ago",
    "€1,234.50",
    "Monday or Friday",
    "5 kilometers, 7 kilometers, and 12 kilometers",
    "Germany, France, & Spain",
    "1.25 million",
    "9:45 AM – 3:00 PM",
)

Pairs = list[tuple[list[int], list[int]]]
Splits = dict[Split, tuple[Translation, ...]]


@dataclass(frozen=True)
class Run:
    """What one training run was asked for."""

    checkpoint: Path
    steps: int
    batch_tokens: int


class Log:
    """Lines to the screen and to a file."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._start = path, time.monotonic()
        self.before_s = 0.0  # of the killed runs that this one goes on from
        if fresh:
            path.write_text("", encoding="utf-8")

    def __call__(self, text: str) -> None:
        """Write one line, or several."""
        print(text, flush=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    @property
    def seconds(self) -> float:
        """Since the run began, without the time between a kill and the resumption."""
        return self.before_s + time.monotonic() - self._start


# --- data -------------------------------------------------------------------------------------------------


def data() -> Splits:
    """The pairs, split as the recipe does."""
    return split_by_group(collect(("en", "de"), PAIRS, Progress()), COUNTS, seed=SEED)


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A vocabulary for both languages: words and pieces of them, single digits, bytes for all else.

    The ids are those of Marian: ``</s>`` is 0, ``<unk>`` is 1 and ``<pad>`` is the last.
    """
    normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    learner = Tokenizer(BPE(unk_token=UNK))
    learner.normalizer, learner.pre_tokenizer = normalizer, words
    single = [f"<0x{value:02X}>" for value in range(256)]
    size = VOCABULARY - len(single) - len((EOS, UNK, PAD))
    learner.train_from_iterator(texts, BpeTrainer(vocab_size=size, show_progress=False, min_frequency=2))
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    vocabulary = {piece: number for number, piece in enumerate([EOS, UNK, *single, *pieces, PAD])}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token=UNK, fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([EOS, UNK, PAD])
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, words
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A $B {EOS}", special_tokens=[(EOS, vocabulary[EOS])]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=PAD,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Translation]) -> Pairs:
    """Ids of both texts of each pair, with ``</s>``."""
    sources = tokenizer([pair.source for pair in pairs])["input_ids"]
    targets = tokenizer([pair.target for pair in pairs])["input_ids"]
    return list(zip(sources, targets, strict=True))


def batches(pairs: Pairs, tokens: int) -> Iterator[list[int]]:
    """Endless batches of indices, each of at most so many tokens of source or target with their padding."""
    order = list(range(len(pairs)))
    epoch = 0
    while True:
        shuffle = random.Random(f"{SEED}:{epoch}")
        shuffle.shuffle(order)
        epoch += 1
        made: list[list[int]] = []
        for start in range(0, len(order), 8_000):
            longest, batch = 0, list[int]()
            for index in sorted(order[start : start + 8_000], key=lambda index: max(map(len, pairs[index]))):
                longest = max(longest, *map(len, pairs[index]))
                if batch and longest * (len(batch) + 1) > tokens:
                    made.append(batch)
                    longest, batch = max(map(len, pairs[index])), []
                batch.append(index)
            made.append(batch)
        shuffle.shuffle(made)
        yield from made


def padded(rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Ids [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])


# --- model ------------------------------------------------------------------------------------------------


def make_model(tokenizer: PreTrainedTokenizerFast) -> MarianMTModel:
    """A new Marian with random weights, except that ``<pad>`` is a row of zeros."""
    torch.manual_seed(SEED)
    size, pad = len(tokenizer), tokenizer.pad_token_id
    config = MarianConfig(
        vocab_size=size,
        decoder_vocab_size=size,
        d_model=256,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        max_position_embeddings=256,
        activation_function="swish",
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        dropout=0.0,  # a few passes over the data are not enough to learn it by heart
        attention_dropout=0.0,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        pad_token_id=pad,
        decoder_start_token_id=pad,
    )
    model = MarianMTModel(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[pad].zero_()
    model.generation_config = GenerationConfig(
        num_beams=1,
        do_sample=False,
        max_length=LONGEST,
        bad_words_ids=[[pad]],
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        pad_token_id=pad,
        decoder_start_token_id=pad,
    )
    return model


def parameters(model: MarianMTModel) -> int:
    """Numbers that were learned: a tied weight counts once, the fixed positions do not."""
    return sum(weight.numel() for name, weight in model.named_parameters() if "embed_positions" not in name)


def loss_of(model: MarianMTModel, batch: Pairs, pad: int) -> torch.Tensor:
    """Mean cross entropy of a target token. ``<pad>`` is never a choice, and so its row stays zero."""
    sources = padded([source for source, _ in batch], pad)
    targets = padded([target for _, target in batch], pad)
    start = torch.full((len(batch), 1), pad)
    logits = model(
        input_ids=sources,
        attention_mask=(sources != pad).long(),
        decoder_input_ids=torch.cat([start, targets[:, :-1]], dim=1),
        use_cache=False,
    ).logits
    return torch.nn.functional.cross_entropy(
        logits[..., :pad].flatten(0, 1), targets.flatten(), ignore_index=pad, label_smoothing=SMOOTHING
    )


def rate(step: int, steps: int) -> float:
    """The learning rate's share of its peak: a linear rise, then a linear fall to zero."""
    warmup = min(WARMUP, steps // 4 or 1)
    return min((step + 1) / warmup, (steps - step) / (steps - warmup))


@torch.inference_mode()
def translate(model: MarianMTModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[str]:
    """Greedy translations, shortest texts first to waste little on padding."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    translated = [""] * len(texts)
    for start in range(0, len(order), 128):
        chosen = order[start : start + 128]
        inputs = tokenizer([texts[index] for index in chosen], padding=True, return_tensors="pt")
        made = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        for index, text in zip(chosen, tokenizer.batch_decode(made, skip_special_tokens=True), strict=True):
            translated[index] = text
    return translated


def exact_match(translated: Sequence[str], pairs: Sequence[Translation]) -> float:
    """The share of texts that are the reference, character for character."""
    return sum(text == pair.target for text, pair in zip(translated, pairs, strict=True)) / len(pairs)


# --- training ---------------------------------------------------------------------------------------------


@dataclass
class State:
    """Everything that a step changes, and the file that keeps it."""

    path: Path
    model: MarianMTModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    def save(self, step: int, seconds: float) -> None:
        """Write it beside the last checkpoint, then in its place."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "step": step,
            "seconds": seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
        }
        fresh = self.path.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(self.path)

    def load(self) -> tuple[int, float]:
        """Read the last checkpoint, if there is one: the steps and the seconds it has behind it."""
        if not self.path.is_file():
            return 0, 0.0
        saved = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["random"])
        return saved["step"], saved["seconds"]


def train(run: Run, splits: Splits, tokenizer: PreTrainedTokenizerFast, log: Log) -> MarianMTModel:
    """Train from random weights, or from the last checkpoint."""
    model, pad = make_model(tokenizer), tokenizer.pad_token_id
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, run.steps))
    state = State(run.checkpoint, model, optimizer, schedule)
    first, log.before_s = state.load()
    log(
        f"resumed after step {first}"
        if first
        else f"{parameters(model):,} parameters, {len(tokenizer)} tokens"
    )
    pairs = encode(tokenizer, splits["train"])
    losses: list[float] = []
    seen = 0
    for step, chosen in zip(range(1, run.steps + 1), batches(pairs, run.batch_tokens), strict=False):
        batch = [pairs[index] for index in chosen]
        seen += sum(len(source) + len(target) for source, target in batch)
        if step <= first:
            continue
        model.train()
        loss = loss_of(model, batch, pad)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % LOG_EVERY == 0 or step == run.steps:
            mean = sum(losses) / len(losses)
            log(f"step {step}/{run.steps}  loss {mean:.4f}  {seen:,} tokens  {log.seconds:.0f} s")
            losses.clear()
            state.save(step, log.seconds)
        if step % CHECK_EVERY == 0:
            checked = splits["validation"][
                ::CHECK_EACH
            ]  # they are sorted by kind: every so many, not the first
            found = exact_match(translate(model, tokenizer, [pair.source for pair in checked]), checked)
            log(f"step {step}/{run.steps}  validation exact match {found:.4f} of {len(checked)}")
    return model


# --- what is written ----------------------------------------------------------------------------------------


def save(model: MarianMTModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights in fp16, the configuration and the tokenizer."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def verify(folder: Path, splits: Splits, log: Log) -> dict[str, str]:
    """Read the folder again as anyone would, and translate the test in fp32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    test, other = splits["test"], splits["validation"]
    start = time.monotonic()
    translated = translate(model, tokenizer, [pair.source for pair in test])
    seconds = time.monotonic() - start
    tokens = sum(len(ids) for ids in tokenizer(translated)["input_ids"])
    wrong = [(pair, text) for pair, text in zip(test, translated, strict=True) if text != pair.target]
    validated = exact_match(translate(model, tokenizer, [pair.source for pair in other]), other)
    numbers = {
        "parameters": f"{parameters(model):,}",
        "weights": f"{(folder / 'model.safetensors').stat().st_size / 1e6:.2f} MB (fp16)",
        "exact match": f"{exact_match(translated, test):.4f} of {len(test)} test pairs",
        "exact match in validation": f"{validated:.4f} of {len(other)} pairs",
        "BLEU": bleu(translated, [pair.target for pair in test]),
        "translating": f"{tokens:,} tokens in {seconds:.1f} s, batches of 128, {THREADS} threads",
    }
    kinds = Counter(pair.group.split(":")[0] for pair in test)
    missed = Counter(pair.group.split(":")[0] for pair, _ in wrong)
    numbers["wrong, by kind"] = ", ".join(
        f"{kind} {missed[kind]} of {kinds[kind]}" for kind in sorted(missed)
    )
    for name, number in numbers.items():
        log(f"test  {name}: {number}")
    for pair, text in wrong:
        log(f"wrong  {pair.id}: {pair.source!r} -> {text!r}, not {pair.target!r}")
    for source, text in zip(SHOWN, translate(model, tokenizer, SHOWN), strict=True):
        log(f"shown  {source!r} -> {text!r}")
    return numbers


def bleu(translated: Sequence[str], references: Sequence[str]) -> str:
    """BLEU by sacreBLEU with its signature, where that is installed."""
    try:
        from sacrebleu.metrics import BLEU
    except ImportError:
        return "not measured (sacrebleu is not installed)"
    metric = BLEU()
    score = metric.corpus_score(list(translated), [list(references)])
    return f"{score.score:.2f} ({metric.get_signature()})"


def card(run: Run, numbers: dict[str, str], versions: str) -> str:
    """The model card."""
    table = "\n".join(f"| {name} | {number.replace('|', ' ')} |" for name, number in numbers.items())
    return f"""---
license: apache-2.0
language: [en, de]
tags: [translation, marian]
---

# Localized texts of apps, English to German

A Marian model that says in German what an English app shows: dates, times, amounts with units, money,
durations, percentages, names of places, languages and currencies, and lists of them. It is the teacher of
`recipes/cldr-en-de.yaml`, small enough to be in a repository and to be trained again, and laid out as the
checkpoints of [OPUS-MT](https://github.com/Helsinki-NLP/Opus-MT) are. It knows nothing else of either
language.

| | |
|---|---|
{table}

Exact match and BLEU are of greedy translations by the weights in this folder, computed in fp32, of texts
whose values were not trained on (a list's value is its combination of items).

## How it was made

`scripts/train_translation_teacher.py --steps {run.steps} --batch-tokens {run.batch_tokens}`, seed {SEED},
from random weights; `training.log` is its whole output.
{versions}.

- **Data**: {PAIRS:,} pairs by `edgelr.load.cldr.collect(("en", "de"), {PAIRS}, ...)`: values rendered in both
  languages with the data of [Unicode CLDR](https://cldr.unicode.org) (Unicode License v3) that
  [Babel](https://babel.pocoo.org) carries; {COUNTS["train"]:,} of them are trained on. The split is by value:
  `split_by_group(pairs, {json.dumps(COUNTS)}, seed={SEED})`.
- **Model**: 4 encoder and 4 decoder layers, width 256, 8 heads, feed-forward 1024, one embedding for both
  languages and the output.
- **Tokens**: byte-pair encoding with single digits, and bytes for what it does not know.
- **Training**: cross entropy with label smoothing {SMOOTHING}, AdamW, peak learning rate {PEAK_RATE},
  {WARMUP} steps of warm-up, linear decay, fp32.
"""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("recipes/cldr-en-de/teacher"))
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/cldr-en-de-teacher"))
@click.option("--steps", default=2600)
@click.option("--batch-tokens", default=1280)
def main(out: Path, work: Path, steps: int, batch_tokens: int) -> None:
    """Train, save, verify."""
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    run = Run(work / f"{steps}-{batch_tokens}" / "checkpoint.pt", steps, batch_tokens)
    log = Log(out / "training.log", fresh=not run.checkpoint.is_file())
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, "
        f"Babel {babel.__version__} (CLDR {get_global('cldr')['version']})"
    )
    log(f"python scripts/train_translation_teacher.py {' '.join(sys.argv[1:])}".rstrip())
    log(f"seed {SEED}, {THREADS} threads, {platform.machine()}; {versions}")
    splits = data()
    log("pairs: " + ", ".join(f"{len(pairs)} {split}" for split, pairs in splits.items()))
    texts = [text for pair in splits["train"] for text in (pair.source, pair.target)]
    tokenizer = make_tokenizer(texts)
    model = train(run, splits, tokenizer, log)
    trained = f"{steps} steps in {log.seconds:.0f} s, {THREADS} threads"
    save(model, tokenizer, out)
    numbers = verify(out, splits, log) | {"training": trained}
    (out / "README.md").write_text(card(run, numbers, versions), encoding="utf-8")
    log(f"done in {log.seconds:.0f} s")


if __name__ == "__main__":
    main()
