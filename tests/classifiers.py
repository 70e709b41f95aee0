"""Small classifiers with random weights, saved by transformers, and texts with their labels."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from once import MakeOnce

from edgelr.artifacts import Package
from edgelr.runtime.package import open_package

LABELS = ("animals", "numbers", "tools")
WORDS = {
    "animals": ["cat", "dog", "horse", "bird", "fish", "goat", "hen", "mouse"],
    "numbers": ["one", "two", "three", "four", "five", "six", "seven", "eight"],
    "tools": ["hammer", "saw", "drill", "nail", "screw", "axe", "file", "pliers"],
}
MAX_TOKENS = 24


def labeled_texts(count: int) -> list[tuple[str, str]]:
    draw = np.random.default_rng(0)
    found = []
    for number in range(count):
        label = LABELS[number % 3]
        words = draw.choice(WORDS[label], size=draw.integers(2, 9))
        found.append((" ".join(words), label))
    return found


def write_tokenizer(folder: Path) -> int:
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    texts = [text for text, _ in labeled_texts(60)]
    tokenizer.train_from_iterator(texts, vocab_size=200, min_frequency=1, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def write_classifier(folder: Path, family: str = "bert", **more: Any) -> Path:
    return write_model(folder, "AutoModelForSequenceClassification", family, **more)


def write_encoder(folder: Path, family: str = "bert", **more: Any) -> Path:
    """What a classifier begins with: the same without a head."""
    return write_model(folder, "AutoModel", family, **more)


def write_model(folder: Path, kind: str, family: str, **more: Any) -> Path:
    import torch
    import transformers

    tokens = write_tokenizer(folder)
    sizes = {
        "vocab_size": tokens,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "initializer_range": 0.3,
    }
    if family == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    named = {"id2label": dict(enumerate(LABELS)), "label2id": {name: at for at, name in enumerate(LABELS)}}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{**sizes, **named, **more})
    getattr(transformers, kind).from_config(config).save_pretrained(folder)
    return folder


RECIPE = """\
edgelr: 1
name: words
task:
  type: text-classification
  max_tokens: 24
  data: {{source: file, path: words.csv, train: 30, validation: 12, test: 18}}
model: {{path: model}}
compress:
  keep: {{parameters: 0.7}}
  rank_multiple: 4
  calibration: {{examples: 12, sensitivity_examples: 6}}
finetune:
  {{steps: 4, batch: 6, precision: fp32, learning_rate: 1.0e-4, task_loss: 0.1, validate_every: 2}}
quantize: {{scheme: int8-dynamic, min_cosine: 0.5}}
validate:
  baselines: [dense-fp32]
  tokens: [8]
  seconds: 0.3
  gates: {gates}
"""


def write_recipe(folder: Path, gates: str = "[{metric: agreement, min: 0.1}]") -> Path:
    with (folder / "words.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "text", "other"))
        writer.writerows((label, text, number) for number, (text, label) in enumerate(labeled_texts(120)))
    (folder / "words.yaml").write_text(RECIPE.format(gates=gates), encoding="utf-8")
    return folder / "words.yaml"


@pytest.fixture(scope="session")
def built_classifier(make_once: MakeOnce) -> Path:
    """Output folder of a build; its dense-fp32 package is in the store beside it."""
    from edgelr.pipeline import build

    def fill(folder: Path) -> None:
        write_classifier(folder / "model")
        build(write_recipe(folder), folder / "out")

    return make_once("built-classifier", fill) / "out"


@pytest.fixture(scope="session")
def dense_classifier(built_classifier: Path) -> Package:
    """The dense package of that build, in fp32."""
    stored = built_classifier.parent / ".store" / "export"
    packages = [open_package(path.parent) for path in sorted(stored.glob("*/package.json"))]
    (found,) = (package for package in packages if package.name.endswith("-dense"))
    return found


# --- images -----------------------------------------------------------------------------------------


def write_images(path: Path, count: int = 60) -> None:
    """Bright in one of three places, which is what the label says."""
    draw = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = draw.normal(size=(count, 3, 8, 8)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[:, :, 2 * label : 2 * label + 3] += 2
    np.savez(path, pixel_values=images, labels=labels)


def write_image_classifier(folder: Path, **more: Any) -> Path:
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    named = {"id2label": dict(enumerate(LABELS)), "label2id": {name: at for at, name in enumerate(LABELS)}}
    torch.manual_seed(0)
    sizes |= {"image_size": 8, "patch_size": 2}
    config = ViTConfig(initializer_range=0.3, **sizes, **named, **more)
    ViTForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    return folder


IMAGE_RECIPE = """\
edgelr: 1
name: places
task:
  type: image-classification
  data: {source: file, path: images.npz, train: 20, validation: 10, test: 12}
model: {path: model}
compress:
  keep: {parameters: 0.6}
  rank_multiple: 4
  calibration: {examples: 12, sensitivity_examples: 6}
finetune: {steps: 4, batch: 6, precision: fp32, learning_rate: 1.0e-4, task_loss: 0.1, validate_every: 2}
quantize: {scheme: weight-int8, min_cosine: 0.5}
validate:
  baselines: [dense-fp32]
  rows: [1, 4]
  seconds: 0.3
  gates: [{metric: agreement, min: 0.1}]
"""


@pytest.fixture(scope="session")
def built_image_classifier(make_once: MakeOnce) -> Path:
    """Output folder of a build."""
    from edgelr.pipeline import build

    def fill(folder: Path) -> None:
        write_image_classifier(folder / "model")
        write_images(folder / "images.npz")
        (folder / "places.yaml").write_text(IMAGE_RECIPE, encoding="utf-8")
        build(folder / "places.yaml", folder / "out")

    return make_once("built-image-classifier", fill) / "out"


# --- tagged texts -----------------------------------------------------------------------------------

TAGS = ("O", "B-ANIMAL", "I-ANIMAL", "B-TOOL")


def tagged_texts(count: int) -> list[tuple[str, str]]:
    draw = np.random.default_rng(1)
    found = []
    for _ in range(count):
        words, tags = [], []
        for _ in range(int(draw.integers(2, 6))):
            kind = LABELS[int(draw.integers(0, 3))]
            words.append(str(draw.choice(WORDS[kind])))
            follows = bool(tags) and tags[-1].endswith("ANIMAL")
            tags.append({"animals": "I-ANIMAL" if follows else "B-ANIMAL", "tools": "B-TOOL"}.get(kind, "O"))
        found.append((" ".join(words), " ".join(tags)))
    return found


def write_tagger(folder: Path, family: str = "bert") -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    tokens = write_tokenizer(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    named = {"id2label": dict(enumerate(TAGS)), "label2id": {name: at for at, name in enumerate(TAGS)}}
    torch.manual_seed(0)
    more = {"vocab_size": tokens, "max_position_embeddings": 40, "initializer_range": 0.3}
    config = AutoConfig.for_model(family, **sizes, **named, **more)
    AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def built_tagger(make_once: MakeOnce) -> Path:
    """Output folder of a build."""
    from edgelr.pipeline import build

    def fill(folder: Path) -> None:
        write_tagger(folder / "model")
        texts = [zip(text.split(), tags.split(), strict=True) for text, tags in tagged_texts(120)]
        lines = ["\n".join(f"{word} x {tag}" for word, tag in text) for text in texts]
        (folder / "words.conll").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        recipe = RECIPE.format(gates="[{metric: agreement, min: 0.1}]")
        recipe = recipe.replace("text-classification", "token-classification")
        recipe = recipe.replace("words.csv", "words.conll")
        (folder / "words.yaml").write_text(recipe, encoding="utf-8")
        build(folder / "words.yaml", folder / "out")

    return make_once("built-tagger", fill) / "out"
