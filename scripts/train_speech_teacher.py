"""Train the teacher of ``recipes/spoken-commands``: a Whisper that writes what people say to a device.

    python scripts/train_speech_teacher.py                  # about 70 minutes on two cores
    python scripts/train_speech_teacher.py --utterances 200 --steps 40 --out build/smoke    # does it run?

The data are ``edgelr.load.spoken``: phrases spoken by espeak-ng in many voices; each time one is read, it
is in another room and noise. Validation and test have other phrases, voices and noises. The model starts
from random numbers. A first cycle reads batches as long as their longest utterance; a second one also reads
them with silence up to the model's window of ten seconds, as it is used, and played faster or slower, which
makes other speakers of those there are. Loss: cross entropy with label smoothing, and at first also CTC of
the letters on the encoder's output, by a head that is thrown away: it finds the alignment in few steps. A
part of the examples is noise without speech, whose transcript is empty and whose first token is
``<|nospeech|>``.

Writes the folder in Hugging Face layout (weights in fp16), ``training.log`` and the model card. A killed
run goes on from its last checkpoint (``--work``). One machine makes the same weights of one seed and
versions.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click

# Threads that wait give their core away: where another job runs, spinning ones make a step ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import jiwer
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.modeling_outputs import BaseModelOutput

from edgelr.load.speech_rooms import colored_noise
from edgelr.load.speech_synthesis import SAMPLE_RATE
from edgelr.load.spoken import clean, draw_voice, heard, phrases_of, spoken
from edgelr.tasks.log_mel import LogMel, log_mel_of

SEED = 0
WINDOW_S = 10
VOCABULARY = 640
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
LETTERS = " abcdefghijklmnopqrstuvwxyz"
THREADS = 2
SMOOTHING = 0.1
PEAK_RATE, WARMUP = 1e-3, 200
SECOND_PEAK, WIDER_SHARE, SPEEDS = 0.5, 0.5, (0.88, 1.14)
CTC_WEIGHT = 0.5
CLEAN_STEPS = 300
SILENT_SHARE = 0.02
LOG_EVERY, CHECK_EVERY = 50, 300
CHECKED = {"validation": 200, "test": 500}
FRAME = 320  # samples of a position of the encoder

Pcm = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Run:
    """What one training run was asked for."""

    work: Path
    utterances: int
    steps: int
    more_steps: int
    batch: int

    @property
    def checkpoint(self) -> Path:
        """Where it is kept: another run's must not be mistaken for it."""
        return self.work / f"{self.utterances}-{self.steps}-{self.more_steps}-{self.batch}.pt"


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


def spoken_cleanly(numbered: tuple[int, object]) -> tuple[str, Pcm]:
    """One utterance of the training, before any room and noise."""
    number, phrase = numbered
    generator = np.random.default_rng([SEED, 7, number])
    pcm = clean(phrase, draw_voice("train", generator), generator)
    return phrase.text, (pcm * 32767).astype(np.int16)


def training_data(run: Run, log: Log) -> tuple[list[str], list[Pcm]]:
    """Texts and 16-bit samples; spoken once, then kept beside the checkpoint."""
    path = run.work / f"utterances-{run.utterances}.npz"
    if path.is_file():
        kept = np.load(path)
        texts, samples, ends = json.loads(kept["texts"].tobytes()), kept["samples"], kept["ends"]
        return texts, np.split(samples, ends[:-1])
    chosen = list(enumerate(islice(phrases_of("train", SEED), run.utterances)))
    with multiprocessing.get_context("spawn").Pool(THREADS) as pool:
        made = pool.map(spoken_cleanly, chosen, chunksize=64)
    texts, pcms = [text for text, _ in made], [pcm for _, pcm in made]
    run.work.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        texts=np.frombuffer(json.dumps(texts).encode(), np.uint8),
        samples=np.concatenate(pcms),
        ends=np.cumsum([len(pcm) for pcm in pcms]),
    )
    log(f"{len(texts)} utterances of {sum(map(len, pcms)) / SAMPLE_RATE / 3600:.1f} h, {log.seconds:.0f} s")
    return texts, pcms


def make_processor(texts: Sequence[str]) -> WhisperProcessor:
    """Whisper's byte-level tokenizer, learned of the training's texts, and its feature extractor."""
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    tokenizer = WhisperTokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        add_prefix_space=True,
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[0],
        pad_token=SPECIAL[0],
    )
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=WINDOW_S), tokenizer)


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Endless batches of indices of similar length, in another order every time."""
    order = list(range(len(lengths)))
    epoch = 0
    while True:
        shuffle = random.Random(f"{SEED}:{epoch}")
        shuffle.shuffle(order)
        epoch += 1
        made: list[list[int]] = []
        for start in range(0, len(order), 50 * size):
            near = sorted(order[start : start + 50 * size], key=lengths.__getitem__)
            made += [near[at : at + size] for at in range(0, len(near), size)]
        shuffle.shuffle(made)
        yield from made


def padded_pcm(pcms: Sequence[Pcm], samples: int | None = None) -> Tensor:
    """Samples [batch, longest], a whole number of the encoder's positions."""
    longest = samples or -(-max(map(len, pcms)) // FRAME) * FRAME
    padded = np.zeros((len(pcms), longest), np.float32)
    for row, pcm in zip(padded, pcms, strict=True):
        row[: len(pcm)] = pcm
    return torch.from_numpy(padded)


# --- model ------------------------------------------------------------------------------------------------


def make_model(tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    """A new Whisper with random weights that knows English only."""
    torch.manual_seed(SEED)
    end, start, plain = tokenizer.convert_tokens_to_ids([SPECIAL[0], SPECIAL[1], "<|notimestamps|>"])
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=256,
        encoder_layers=4,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        max_source_positions=WINDOW_S * 50,
        max_target_positions=64,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    for module in model.modules():
        # transformers' own start, for weights to be loaded, is so small that positions drown the sound.
        if isinstance(module, nn.Linear) and module is not model.proj_out:
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=64,
        is_multilingual=False,
        no_timestamps_token_id=plain,
        forced_decoder_ids=[[1, plain]],
        return_timestamps=False,
        suppress_tokens=[token for token in range(end, len(tokenizer)) if token != end],
        begin_suppress_tokens=None,
        prev_sot_token_id=tokenizer.convert_tokens_to_ids("<|startofprev|>"),
    )
    return model


def encode(model: WhisperForConditionalGeneration, features: Tensor) -> Tensor:
    """States [batch, positions, width] of as many frames as there are; transformers wants them all."""
    encoder = model.model.encoder
    states = nn.functional.gelu(encoder.conv1(features))
    states = nn.functional.gelu(encoder.conv2(states)).transpose(1, 2)
    states = states + encoder.embed_positions.weight[: states.shape[1]]
    for layer in encoder.layers:
        states = layer(states, None)
    return encoder.layer_norm(states)


@dataclass(frozen=True)
class Batch:
    """What a step reads: samples, how many of them are speech, and token ids with their prompt and end."""

    pcm: Tensor
    lengths: list[int]
    texts: list[str]
    rows: list[list[int]]
    noisy: bool


def loss_of(
    model: WhisperForConditionalGeneration, head: nn.Linear, mel: LogMel, batch: Batch, ctc: float
) -> tuple[Tensor, Tensor]:
    """Mean cross entropy of a token with the weighted CTC loss of the letters; and that alone."""
    features = mel(batch.pcm)
    if batch.noisy:
        features = masked(features)
    states = encode(model, features)
    longest = max(map(len, batch.rows))
    end = model.config.eos_token_id
    rows = torch.tensor([[*row, *[end] * (longest - len(row))] for row in batch.rows])
    counts = torch.tensor([len(row) for row in batch.rows])
    labels = rows[:, 1:].masked_fill(torch.arange(longest - 1) >= counts[:, None] - 1, -100)
    silent = model.config.decoder_start_token_id + SPECIAL.index("<|nospeech|>") - 1
    for row, text in enumerate(batch.texts):
        if not text:
            labels[row, 0] = silent  # what it should have said in the prompt's place
    logits = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        decoder_input_ids=rows[:, :-1],
        use_cache=False,
    ).logits
    loss = nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=SMOOTHING
    )
    if not ctc:
        return loss, torch.zeros(())
    letters = [torch.tensor([LETTERS.index(letter) + 1 for letter in text]) for text in batch.texts]
    scores = head(states).log_softmax(-1).transpose(0, 1)
    positions = torch.tensor([-(-length // FRAME) for length in batch.lengths])
    sizes = torch.tensor([len(each) for each in letters])
    found = nn.functional.ctc_loss(scores, torch.cat(letters), positions, sizes, zero_infinity=True)
    return loss + ctc * found, found.detach()


def masked(features: Tensor) -> Tensor:
    """SpecAugment: a band of frequencies and a span of time of every example are blank.

    Source:
        Park et al., SpecAugment (2019), section 2.
    """
    count, mels, frames = features.shape
    low = torch.randint(0, mels, (count, 1, 1))
    band = torch.arange(mels)[None, :, None]
    first = torch.randint(0, frames, (count, 1, 1))
    span = torch.arange(frames)[None, None, :]
    tall, wide = torch.randint(0, 16, (count, 1, 1)), torch.randint(0, 16, (count, 1, 1))
    hidden = ((band >= low) & (band < low + tall)) | ((span >= first) & (span < first + wide))
    return features.masked_fill(hidden, 0.0)


def rate(step: int, run: Run) -> float:
    """The learning rate's share of its peak: a linear rise, then a linear fall to zero, in each cycle."""
    if step < run.steps:
        return cycle(step, run.steps)
    return SECOND_PEAK * cycle(step - run.steps, max(run.more_steps, 1))


def cycle(step: int, steps: int) -> float:
    """Of one cycle."""
    warmup = min(WARMUP, steps // 4 or 1)
    return min((step + 1) / warmup, max(steps - step, 0) / (steps - warmup or 1))


# --- training ---------------------------------------------------------------------------------------------


class Trainer:
    """Everything that a step changes, and the file that keeps it."""

    def __init__(self, run: Run, processor: WhisperProcessor) -> None:
        self.run, self.processor = run, processor
        self.model = make_model(processor.tokenizer)
        self.mel = log_mel_of(processor.feature_extractor)
        self.head = nn.Linear(self.model.config.d_model, len(LETTERS) + 1)
        weights = [*self.model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            weights, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: rate(step, run))

    def save(self, step: int, seconds: float) -> None:
        """Write it beside the last checkpoint, then in its place."""
        state = {
            "step": step,
            "seconds": seconds,
            "parts": [part.state_dict() for part in (self.model, self.head, self.optimizer, self.schedule)],
            "random": torch.get_rng_state(),
        }
        fresh = self.run.checkpoint.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(self.run.checkpoint)

    def load(self) -> tuple[int, float]:
        """Read the last checkpoint, if there is one: the steps and the seconds it has behind it."""
        if not self.run.checkpoint.is_file():
            return 0, 0.0
        saved = torch.load(self.run.checkpoint, weights_only=True)
        for part, state in zip(
            (self.model, self.head, self.optimizer, self.schedule), saved["parts"], strict=True
        ):
            part.load_state_dict(state)
        torch.set_rng_state(saved["random"])
        return saved["step"], saved["seconds"]

    def step(self, batch: Batch, ctc: float) -> tuple[float, float]:
        """One update."""
        self.model.train()
        loss, letters = loss_of(self.model, self.head, self.mel, batch, ctc)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.item(), letters.item()


def batch_of(
    trainer: Trainer, texts: Sequence[str], pcms: Sequence[Pcm], chosen: Sequence[int], step: int
) -> Batch:
    """What a step reads; the same for the same step."""
    rows, said, heard_pcms = [], [], []
    second = step > trainer.run.steps
    noisy = step > CLEAN_STEPS  # at first it is hard enough to find out what speech is
    tokenizer = trainer.processor.tokenizer
    prompt = tokenizer.convert_tokens_to_ids([SPECIAL[1], "<|notimestamps|>"])
    for index in chosen:
        generator = np.random.default_rng([SEED, 8, step, index])
        silent = generator.random() < SILENT_SHARE
        pcm = pcms[index].astype(np.float32) / 32767
        if second:
            pcm = played(pcm, generator.uniform(*SPEEDS))
        if silent:
            noise = colored_noise(len(pcm), generator, slope=generator.uniform(0, 2), humps=2)
            pcm = noise * np.float32(10 ** generator.uniform(-4, -1))
        text = "" if silent else texts[index]
        heard_pcms.append(pcm if silent or not noisy else heard(pcm, generator))
        said.append(text)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        rows.append([*prompt, *ids, trainer.model.config.eos_token_id])
    longest, whole = max(map(len, heard_pcms)), WINDOW_S * SAMPLE_RATE
    draw = np.random.default_rng([SEED, 9, step])
    wider = int(draw.uniform(longest, whole)) if second and draw.random() < WIDER_SHARE else longest
    pcm = padded_pcm(heard_pcms, min(-(-wider // FRAME) * FRAME, whole) if longest <= whole else None)
    return Batch(pcm=pcm, lengths=[len(each) for each in heard_pcms], texts=said, rows=rows, noisy=noisy)


def played(pcm: Pcm, speed: float) -> Pcm:
    """A recording played faster or slower: pitch and formants move with it, as of another speaker."""
    times = np.arange(0, len(pcm) - 1, speed)
    return np.interp(times, np.arange(len(pcm)), pcm).astype(np.float32)


def train(run: Run, log: Log) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """Train from random weights, or from the last checkpoint."""
    texts, pcms = training_data(run, log)
    trainer = Trainer(run, make_processor(texts))
    checked = list(islice(spoken("validation", SEED), CHECKED["validation"]))
    first, before = trainer.load()
    log.before_s += before
    size = sum(weight.numel() for weight in trainer.model.parameters())
    log(f"resumed after step {first}" if first else f"{size:,} parameters, {len(texts)} utterances")
    last = run.steps + run.more_steps
    losses: list[tuple[float, float]] = []
    lengths = [len(pcm) for pcm in pcms]
    for step, chosen in zip(range(1, last + 1), batches(lengths, run.batch), strict=False):
        if step <= first:
            continue
        ctc = CTC_WEIGHT if step <= run.steps // 2 else 0.0
        losses.append(trainer.step(batch_of(trainer, texts, pcms, chosen, step), ctc))
        if step % LOG_EVERY == 0 or step == last:
            loss, letters = (sum(each) / len(losses) for each in zip(*losses, strict=True))
            log(f"step {step}/{last}  loss {loss:.4f}, CTC {letters:.4f}  {log.seconds:.0f} s")
            losses.clear()
            trainer.save(step, log.seconds)
        if step % CHECK_EVERY == 0:
            found = transcribe(trainer.model, trainer.processor, [each.pcm for each in checked])
            errors = 100 * jiwer.wer([each.text for each in checked], found)
            log(f"step {step}/{last}  validation WER {errors:.2f} % of {len(checked)}  {log.seconds:.0f} s")
    return trainer.model, trainer.processor


@torch.inference_mode()
def transcribe(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, pcms: Sequence[Pcm]
) -> list[str]:
    """Greedy transcripts of the whole window, by transformers."""
    model.eval()
    mel = log_mel_of(processor.feature_extractor)
    found = []
    for start in range(0, len(pcms), 25):
        features = mel(padded_pcm(pcms[start : start + 25], WINDOW_S * SAMPLE_RATE))
        ids = model.generate(input_features=features)
        found += [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
    return found


# --- what is written --------------------------------------------------------------------------------------


def verify(folder: Path, log: Log) -> dict[str, str]:
    """Read the folder again as anyone would, and transcribe the test in fp32."""
    processor = WhisperProcessor.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    test = list(islice(spoken("test", SEED), CHECKED["test"]))
    found = transcribe(model, processor, [each.pcm for each in test])
    texts = [each.text for each in test]
    generator = np.random.default_rng(SEED)
    silence = [np.zeros(2 * SAMPLE_RATE, np.float32)] + [
        colored_noise(2 * SAMPLE_RATE, generator, slope=1, humps=1) * np.float32(level)
        for level in (0.001, 0.01, 0.1)
    ]
    size = sum(weight.numel() for weight in model.parameters())
    numbers = {
        "parameters": f"{size:,}",
        "weights": f"{(folder / 'model.safetensors').stat().st_size / 1e6:.2f} MB (fp16)",
        "word error rate": f"{100 * jiwer.wer(texts, found):.2f} % of {len(test)} test utterances",
        "character error rate": f"{100 * jiwer.cer(texts, found):.2f} %",
        "without an error": f"{sum(map(str.__eq__, texts, found)) / len(test):.3f}",
        "of silence and noise it hears": str(transcribe(model, processor, silence)),
    }
    for name, number in numbers.items():
        log(f"test  {name}: {number}")
    for each, text in zip(test, found, strict=True):
        if text != each.text:
            log(f"wrong  {each.voice.name}: {each.text!r} -> {text!r}")
    return numbers


def card(run: Run, numbers: dict[str, str], versions: str) -> str:
    """The model card."""
    table = "\n".join(f"| {name} | {number.replace('|', ' ')} |" for name, number in numbers.items())
    return f"""---
license: apache-2.0
language: [en]
tags: [automatic-speech-recognition, whisper]
---

# Spoken commands, English

A Whisper that writes what people say to a device: numbers, times, dates, commands, names, shopping lists and
spelled letters. It is the teacher of `recipes/spoken-commands.yaml`, small enough to be in a repository and
to be trained again, and laid out as the checkpoints of Whisper are, with a window of {WINDOW_S} seconds. It
has heard synthetic voices only.

| | |
|---|---|
{table}

Error rates are of greedy transcripts by the weights in this folder, computed in fp32, of phrases, voices and
noises that were not trained on.

## How it was made

`scripts/train_speech_teacher.py --utterances {run.utterances} --steps {run.steps}
--more-steps {run.more_steps} --batch {run.batch}`, seed {SEED}, from random weights; `training.log` is its
whole output. {versions}.

- **Data**: {run.utterances:,} phrases of `edgelr.load.spoken`, spoken by
  [espeak-ng](https://github.com/espeak-ng/espeak-ng) through the `espeakng-loader` wheel; rooms and noise
  are drawn anew every time.
- **Model**: 4 encoder and 2 decoder layers, width 256, 4 heads, feed-forward 1024.
- **Tokens**: byte-pair encoding of bytes, {VOCABULARY} of them, and Whisper's special ones but times.
- **Training**: cross entropy with label smoothing {SMOOTHING}, CTC of the letters with weight
  {CTC_WEIGHT} in the first half, SpecAugment, AdamW, peak learning rate {PEAK_RATE}, {WARMUP} steps of
  warm-up, linear decay, fp32; a second cycle of {run.more_steps} steps at {SECOND_PEAK} of the rate, half
  of them in wider windows, played at {SPEEDS[0]} to {SPEEDS[1]} of the speed.
"""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("recipes/spoken-commands/teacher"))
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/spoken-commands-teacher"))
@click.option("--utterances", default=20_000)
@click.option("--steps", default=1_800)
@click.option("--more-steps", default=1_100)
@click.option("--batch", default=32)
def main(out: Path, work: Path, utterances: int, steps: int, more_steps: int, batch: int) -> None:
    """Train, save, verify."""
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    run = Run(work, utterances, steps, more_steps, batch)
    log = Log(out / "training.log", fresh=not run.checkpoint.is_file())
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, numpy {np.__version__}"
    )
    log(f"python scripts/train_speech_teacher.py {' '.join(sys.argv[1:])}".rstrip())
    log(f"seed {SEED}, {THREADS} threads, {platform.machine()}; {versions}")
    model, processor = train(run, log)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    numbers = verify(out, log)
    trained = f"{run.steps} + {run.more_steps} steps in {log.seconds:.0f} s, {THREADS} threads"
    (out / "README.md").write_text(card(run, numbers | {"training": trained}, versions), encoding="utf-8")
    log(f"done in {log.seconds:.0f} s")


if __name__ == "__main__":
    main()
