"""Tiny random Whispers as their folders are laid out, utterances for them, and packages of one: fixtures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from once import MakeOnce

from edgelr.artifacts import SPLITS, Package, Source
from edgelr.examples import Utterance, write_examples
from edgelr.progress import Progress
from edgelr.runtime.audio import SAMPLE_RATE, write_flac
from edgelr.runtime.package import open_package

WINDOW_S = 2
MAX_TOKENS = 24
UTTERANCES = 12
LANGUAGES = ("en", "zh", "de")  # in the order of Whisper's own
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BEFORE = ("<|endoftext|>", "<|startoftranscript|>")
_AFTER = (
    *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"),
    "<|notimestamps|>",
)
_TIMES = tuple(f"<|{number * 0.02:.2f}|>" for number in range(WINDOW_S * 50 + 1))


# --- sounds ---------------------------------------------------------------------------------------------


def speechlike(number: int, seconds: float) -> np.ndarray:
    """Syllables of harmonics at pitches that wander, in noise: every number sounds different."""
    draw = np.random.default_rng(number)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = draw.uniform(90, 260) * (1 + 0.2 * np.sin(2 * np.pi * draw.uniform(0.5, 3) * times))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    formants = draw.uniform(0.1, 1.0, 20) * np.exp(-np.arange(20) / draw.uniform(2, 8))
    voice = sum(loud * np.sin(order * phase) for order, loud in enumerate(formants, 1))
    syllables = np.clip(np.sin(2 * np.pi * draw.uniform(2, 6) * times + draw.uniform(0, 6)), 0, None)
    noise = draw.uniform(0.001, 0.05) * draw.standard_normal(len(times))
    pcm = voice * syllables + noise
    return (draw.uniform(0.2, 0.8) * pcm / np.abs(pcm).max()).astype(np.float32)


@pytest.fixture(scope="session")
def speech() -> Callable[[int, float], np.ndarray]:
    """``speech(number, seconds)``: PCM of 16 kHz."""
    return speechlike


@pytest.fixture(scope="session")
def sounds(make_once: MakeOnce) -> Path:
    """A folder of ``audio/*.flac`` and ``utterances.jsonl``, as a user would bring them."""
    return make_once("sounds", write_sounds)


def write_sounds(folder: Path) -> None:
    (folder / "audio").mkdir()
    rows = []
    for number in range(UTTERANCES):
        name = f"audio/{number:02}.flac"
        write_flac(folder / name, speechlike(number, 0.5 + 1.5 * number / (UTTERANCES - 1)))
        rows.append({"audio": name, "text": said(number), "id": f"utterance-{number:02}"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "utterances.jsonl").write_text(lines, encoding="utf-8")
    return folder


def said(number: int) -> str:
    """What is said in a sound: one to six numbers."""
    draw = np.random.default_rng(number)
    return " ".join(_NUMBERS[each] for each in draw.integers(len(_NUMBERS), size=1 + number // 2))


@pytest.fixture(scope="session")
def utterances() -> tuple[Utterance, ...]:
    """The rows of ``sounds`` as examples."""
    return tuple(
        Utterance(id=f"utterance-{number:02}", group=said(number), audio=f"audio/{number:02}.flac",
                  text=said(number))
        for number in range(UTTERANCES)
    )  # fmt: skip


@pytest.fixture(scope="session")
def write_clips() -> Callable[..., Path]:
    """``write_clips(folder, rows, split="train")``: a folder that is laid out like a dataset of the hub."""
    return write_parquet


def write_parquet(folder: Path, rows: list[dict[str, Any]], split: str = "train") -> Path:
    """A shard of recordings with the hub's own note of what its columns are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"text": {"dtype": "string", "_type": "Value"}, "audio": {"_type": "Audio"}}
    for name in rows[0].keys() - kinds:
        kinds[name] = {"dtype": "int64", "_type": "Value"}
    sound = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema(
        [
            (name, sound if name == "audio" else pa.string() if name == "text" else pa.int64())
            for name in rows[0]
        ],
        metadata={"huggingface": json.dumps({"info": {"features": kinds}})},
    )
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema)
    pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


# --- models ---------------------------------------------------------------------------------------------


def whisper_processor(special: Sequence[str]) -> Any:
    """A byte-level tokenizer of numbers with Whisper's special tokens, and a feature extractor."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator([said(number) for number in range(100)], trainer)
    learned = json.loads(learner.to_str())["model"]
    end = special[0]
    tokenizer = WhisperTokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        add_prefix_space=True,
        unk_token=end,
        bos_token=end,
        eos_token=end,
        pad_token=end,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(special[1:])})
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=WINDOW_S), tokenizer)


def whisper_model(tokenizer: Any, seed: int) -> Any:
    """Two and two layers of random weights, whose transcripts vary and end."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    vocabulary = tokenizer.get_vocab()
    end, start = vocabulary["<|endoftext|>"], vocabulary["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=WINDOW_S * 50,
        max_target_positions=32,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        init_std=0.3,  # at the usual 0.02 all sounds have nearly the same transcript
    )
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config).eval()
    last = model.model.decoder.layer_norm
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[end] = 0.3 * torch.randn(32)  # padding begins as zeros
        # Its head is its embedding: without other signs here every token would be followed by itself.
        last.weight.copy_(torch.randn(32))
        lean(model, end, 3.0)  # so that some transcripts end
    return model


def lean(model: Any, token: int, logit: float) -> None:
    """Add so much to a token's logit at every step, and next to nothing to the others'."""
    import torch

    with torch.no_grad():
        direction = model.model.decoder.embed_tokens.weight[token]
        model.model.decoder.layer_norm.bias.add_(logit * direction / direction.square().sum())


def write_whisper(folder: Path, seed: int, languages: Sequence[str] = (), *, timed: bool = False) -> None:
    """Save one as transformers does; one of no languages knows English only, a timed one may write times."""
    from transformers import GenerationConfig

    codes = [f"<|{code}|>" for code in languages]
    processor = whisper_processor((*_BEFORE, *codes, *_AFTER, *(_TIMES if languages or timed else ())))
    ids = processor.tokenizer.get_vocab()
    model = whisper_model(processor.tokenizer, seed)
    end = ids["<|endoftext|>"]
    spoken = {token for name, token in ids.items() if name.lstrip("\u0120").isascii() and name[-1].isalpha()}
    times = set(map(ids.get, _TIMES)) if timed else set()
    several = {
        "lang_to_id": {code: ids[code] for code in codes},
        "task_to_id": {name: ids[f"<|{name}|>"] for name in ("translate", "transcribe")},
    }
    model.generation_config = GenerationConfig(
        decoder_start_token_id=ids["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=32,
        is_multilingual=bool(languages),
        no_timestamps_token_id=ids["<|notimestamps|>"],
        forced_decoder_ids=[[1, ids["<|notimestamps|>"]]],
        return_timestamps=False,
        suppress_tokens=sorted(set(ids.values()) - spoken - times - {end}),
        begin_suppress_tokens=[ids["\u0120"], end],
        prev_sot_token_id=ids["<|startofprev|>"],
        no_repeat_ngram_size=3,  # or random weights would say one thing over and over
        **(several if languages else {}),
        **({"max_initial_timestamp_index": 20} if timed else {}),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n", encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_whisper(make_once: MakeOnce) -> Path:
    """A folder of a Whisper that knows English only."""
    return make_once("whisper", lambda folder: write_whisper(folder, seed=6))


@pytest.fixture(scope="session")
def many_whisper(make_once: MakeOnce) -> Path:
    """A folder of a Whisper of several languages, which has tokens of times, too."""
    return make_once("many-whisper", lambda folder: write_whisper(folder, seed=9, languages=LANGUAGES))


@pytest.fixture(scope="session")
def timed_whisper(make_once: MakeOnce) -> Path:
    """A folder of a Whisper that may tell the times of what it hears."""
    return make_once("timed-whisper", lambda folder: write_whisper(folder, seed=8, timed=True))


@pytest.fixture(scope="session")
def speech_reading(tiny_whisper: Path, sounds: Path) -> Any:
    """How sounds become the input of ``tiny_whisper``."""
    from edgelr.tasks.task import Reading

    return Reading(folder=tiny_whisper, max_tokens=MAX_TOKENS, sounds=sounds)


@pytest.fixture(scope="session")
def many_reading(many_whisper: Path, sounds: Path) -> Any:
    """How German sounds become the input of ``many_whisper``."""
    from edgelr.tasks.task import Reading

    return Reading(folder=many_whisper, max_tokens=MAX_TOKENS, sounds=sounds, source_language="de")


@pytest.fixture(scope="session")
def tell_silence() -> Callable[[Path], None]:
    """Change a folder of a Whisper: it then thinks at any time that nobody speaks."""

    def change(folder: Path) -> None:
        from transformers import WhisperForConditionalGeneration

        model = WhisperForConditionalGeneration.from_pretrained(folder)
        lean(model, model.generation_config.no_timestamps_token_id - 1, 30.0)
        model.save_pretrained(folder)

    return change


# --- packages -------------------------------------------------------------------------------------------


def export_speech(
    model_folder: Path,
    sounds: Path,
    examples: Sequence[Utterance],
    home: Path,
    settings: dict[str, Any],
    operators: Literal["fused", "plain"] = "fused",
) -> Package:
    """Run the stage on a folder of a model: the dense package, fp32."""
    from edgelr.export.label import Label
    from edgelr.export.stage import export
    from edgelr.recipe.schema import Export
    from edgelr.recipe.tasks import Recognize

    (home / "data").mkdir(parents=True)
    (home / "data" / "audio").symlink_to(sounds / "audio")
    for split in SPLITS:
        write_examples(home / "data" / f"{split}.jsonl", examples)
    source = Source(
        folder=home,
        model_folder=model_folder,
        fingerprint=model_folder.name,
        title="tiny",
        license="mit",
        counts={split: len(examples) for split in SPLITS},
    )
    data = {"source": "file", "path": "utterances.jsonl"}
    task = {"type": "automatic-speech-recognition", "data": data, "max_tokens": MAX_TOKENS, **settings}
    label = Label(name="tiny-speech", task=Recognize.model_validate(task), macs=1000)
    (home / "package").mkdir()
    return export(source, None, label, Export(operators=operators), home / "package", Progress(quiet=True))


@pytest.fixture(scope="session")
def export_whisper(sounds: Path, utterances: tuple[Utterance, ...]) -> Callable[..., Package]:
    """``export_whisper(model_folder, home, language="de")``: its dense package, with all utterances."""
    return lambda folder, home, **settings: export_speech(folder, sounds, utterances, home, settings)


@pytest.fixture(scope="session")
def dense_speech(make_once: MakeOnce, tiny_whisper: Path, export_whisper: Callable[..., Package]) -> Package:
    """The package of ``tiny_whisper``, dense and fp32; not to be changed."""
    home = make_once("dense-speech", lambda folder: export_whisper(tiny_whisper, folder))
    return open_package(home / "package")


@pytest.fixture(scope="session")
def timed_speech(make_once: MakeOnce, timed_whisper: Path, export_whisper: Callable[..., Package]) -> Package:
    """The package of ``timed_whisper``, dense and fp32; not to be changed."""
    home = make_once("timed-speech", lambda folder: export_whisper(timed_whisper, folder))
    return open_package(home / "package")


@pytest.fixture(scope="session")
def plain_speech(
    make_once: MakeOnce, tiny_whisper: Path, sounds: Path, utterances: tuple[Utterance, ...]
) -> Package:
    """``dense_speech`` in plain operators; not to be changed."""
    home = make_once(
        "plain-speech",
        lambda folder: export_speech(tiny_whisper, sounds, utterances, folder, {}, "plain"),
    )
    return open_package(home / "package")


@pytest.fixture(scope="session")
def small_speech(make_once: MakeOnce, dense_speech: Package) -> Package:
    """``dense_speech`` in 8 bits; not to be changed."""
    from edgelr.quantize.stage import quantize
    from edgelr.recipe.schema import Quantize

    settings = Quantize(scheme="int8-dynamic", min_cosine=0.5)
    return open_package(
        make_once(
            "small-speech", lambda folder: quantize(dense_speech, settings, folder, Progress(quiet=True))
        )
    )


# --- models with CTC ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def make_ctc(make_once: MakeOnce) -> Callable[[str], Path]:
    """``make_ctc("wav2vec2")``, ``"wav2vec2-layer"`` or ``"hubert"``: a tiny random one, made once."""
    return lambda name: make_once(name, lambda folder: write_ctc(folder, *name.partition("-")[::2]))


def write_ctc(folder: Path, kind: str, norm: str) -> None:
    """Letters in capitals, as wav2vec2-base-960h has them; ``norm`` is that of its first layers."""
    import torch
    import transformers
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAOINSHRDLUMWCFGYPBVK'XJQZ"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    layered = norm == "layer"
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=layered)
    names = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert"}[kind]
    config = getattr(transformers, f"{names}Config")(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm=norm or "group",
        do_stable_layer_norm=layered,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{names}ForCTC")(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(30)  # letters vary along a sound
    model.save_pretrained(folder)
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))).save_pretrained(folder)


@pytest.fixture(scope="session")
def ctc_package(
    make_once: MakeOnce,
    make_ctc: Callable[[str], Path],
    sounds: Path,
    utterances: tuple[Utterance, ...],
) -> Package:
    """The dense fp32 package of ``make_ctc("wav2vec2")``, of a window of two seconds; not to be changed."""
    model, window = make_ctc("wav2vec2"), {"window_s": WINDOW_S}
    home = make_once("ctc-package", lambda folder: export_speech(model, sounds, utterances, folder, window))
    return open_package(home / "package")


# --- Moonshine ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def make_moonshine(make_once: MakeOnce) -> Callable[[str], Path]:
    """``make_moonshine("plain")`` or ``"odd"``, whose heads are no multiple of 8: a tiny one, made once."""
    heads = {"plain": 8, "odd": 12}
    return lambda name: make_once(f"moonshine-{name}", lambda folder: write_moonshine(folder, heads[name]))


def moonshine_tokenizer() -> Any:
    """Byte-level fallback and spaces as "▁", as Moonshine's own has them."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([said(number) for number in range(100)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def write_moonshine(folder: Path, head: int) -> None:
    """Two and two layers of random weights, whose transcripts vary and end, saved as transformers does."""
    import torch
    from transformers import (
        MoonshineConfig,
        MoonshineForConditionalGeneration,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Processor,
    )

    tokenizer = moonshine_tokenizer()
    config = MoonshineConfig(
        vocab_size=len(tokenizer),
        hidden_size=4 * head,
        intermediate_size=40,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=4,
        decoder_num_attention_heads=4,
        max_position_embeddings=64,
        pad_head_dim_to_multiple_of=8,
        initializer_range=0.3,
    )
    torch.manual_seed(3)
    model = MoonshineForConditionalGeneration(config).eval()
    with torch.no_grad():
        # Its head is its embedding: without other signs here every token would be followed by itself.
        model.model.decoder.norm.weight.copy_(torch.randn(4 * head))
        model.model.decoder.embed_tokens.weight[2] *= 2.5  # so that some transcripts end
    model.generation_config.max_length = 64
    model.generation_config.no_repeat_ngram_size = 3  # or random weights would say one thing over and over
    model.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)


@pytest.fixture(scope="session")
def moonshine_package(
    make_once: MakeOnce,
    make_moonshine: Callable[[str], Path],
    sounds: Path,
    utterances: tuple[Utterance, ...],
) -> Callable[[str], Package]:
    """``moonshine_package("plain")``: the dense fp32 package of ``make_moonshine``; not to be changed."""

    def make(name: str) -> Package:
        home = make_once(
            f"moonshine-{name}-package",
            lambda folder: export_speech(make_moonshine(name), sounds, utterances, folder, {}),
        )
        return open_package(home / "package")

    return make
