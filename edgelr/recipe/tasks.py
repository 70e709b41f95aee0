"""The section ``task`` of a recipe: what the model is for, and the data to tune and to test it on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgelr.recipe.classify import Classify, ClassifyImages, TagTokens
from edgelr.recipe.custom import Custom
from edgelr.recipe.recommend import Recommend
from edgelr.recipe.section import Count, Name, Section


class PythonDocs(Section):
    """Python's own documentation, read from what is installed: docstrings and the topics of ``pydoc``."""

    source: Literal["python-docs"]
    packages: tuple[Name, ...] = Field(
        ("stdlib", "numpy"), min_length=1, description="where to look; 'stdlib' is Python itself"
    )
    hold_out: tuple[str, ...] = Field((), description="globs of modules that are test data in any case")
    train_only: tuple[str, ...] = Field(
        (), description="globs of modules that are never test data: more text to tune on, the same test"
    )
    train: Count = Field(6000, description="texts to tune on")
    validation: Count = Field(200, description="pairs to pick the best checkpoint on")
    test: Count = Field(500, description="pairs to validate on; they travel in the package")


class PairsFile(Section):
    """Your own pairs: JSONL (``{"query", "passage", "group"?, "id"?}``) or TSV (query, passage, group?)."""

    source: Literal["file"]
    path: str = Field(description="a .jsonl or .tsv file next to the recipe")
    train: Count = 6000
    validation: Count = 200
    test: Count = 500


class SentenceEmbedding(Section):
    """Texts to vectors that can be compared by their cosine."""

    type: Literal["sentence-embedding"]
    data: Annotated[PythonDocs | PairsFile, Field(discriminator="source")]
    max_tokens: int = Field(
        128, ge=8, le=8192, description="longer texts are cut, in tuning and in the package"
    )


class CldrPairs(Section):
    """Dates, times, numbers, units, money and lists in two languages, made by Babel of Unicode's CLDR."""

    source: Literal["cldr"]
    languages: tuple[str, str] = Field(description="from and to, such as [en, de]")
    train: Count = Field(40_000, description="pairs to tune on")
    validation: Count = Field(1000, description="pairs to pick the best checkpoint on")
    test: Count = Field(2000, description="pairs to validate on; they travel in the package")


class TranslationsFile(Section):
    """Your own translations: JSONL (``{"source", "target", "group"?, "id"?}``) or TSV (source, target)."""

    source: Literal["file"]
    path: str = Field(description="a .jsonl or .tsv file next to the recipe")
    train: Count = 40_000
    validation: Count = 1000
    test: Count = 2000


class TranslationsDataset(Section):
    """Translations from the Hugging Face hub, by the ``datasets`` library."""

    source: Literal["dataset"]
    id: str = Field(
        min_length=1, description="such as 'wmt16', or a folder next to the recipe laid out alike"
    )
    languages: tuple[str, str] = Field(
        description="from and to: keys of its column 'translation', or columns of their own"
    )
    config: str | None = Field(None, description="which of its parts, such as 'de-en'")
    split: Name = Field("train", description="where rows are taken from; edgelr makes splits of its own")
    rows: Count = Field(100_000, description="most rows to read, from the first on")
    revision: str | None = Field(None, description="commit of the hub: without one, the data may change")
    train: Count = 40_000
    validation: Count = 1000
    test: Count = 2000


class Translate(Section):
    """Texts of one language to texts of another: Marian, T5, mBART, M2M100 and their kin."""

    type: Literal["translation"]
    data: Annotated[CldrPairs | TranslationsFile | TranslationsDataset, Field(discriminator="source")]
    max_tokens: int = Field(
        128, ge=8, le=1024, description="longer texts are cut in tuning, and split in the package"
    )
    prefix: str = Field(
        "", max_length=200, description="what every text begins with, such as 'translate English to German: '"
    )
    source_language: str | None = Field(
        None, description="code of the language of the texts, for a model of many, such as 'eng_Latn' or 'en'"
    )
    target_language: str | None = Field(None, description="code of the language to translate to, likewise")

    @model_validator(mode="after")
    def _both_languages(self) -> Self:
        if (self.source_language is None) != (self.target_language is None):
            raise ValueError("source_language and target_language belong together: give both or neither")
        return self


class SpokenPhrases(Section):
    """English commands, numbers, times, dates and spelled letters, spoken by espeak-ng in noise and rooms."""

    source: Literal["spoken-phrases"]
    train: Count = Field(3000, description="utterances to tune on")
    validation: Count = Field(100, description="utterances to pick the best checkpoint on")
    test: Count = Field(300, description="utterances to validate on; they travel in the package")


class UtterancesFile(Section):
    """Your own: JSONL (``{"audio", "text", "group"?, "id"?}``) or TSV (audio, text, group?)."""

    source: Literal["file"]
    path: str = Field(description="a .jsonl or .tsv file next to the recipe; sounds are relative to it")
    train: Count = 3000
    validation: Count = 100
    test: Count = 300


class UtterancesDataset(Section):
    """Recordings and their texts from the Hugging Face hub, by the ``datasets`` library."""

    source: Literal["dataset"]
    id: str = Field(
        min_length=1,
        description="such as 'google/fleurs', or a folder next to the recipe laid out alike, of parquet",
    )
    config: str | None = Field(None, description="which of its parts, such as 'en_us'")
    split: Name = Field("train", description="where rows are taken from; edgelr makes splits of its own")
    audio: str = Field("audio", min_length=1, description="its column of sounds")
    text: str = Field("text", min_length=1, description="its column of transcripts")
    group: str | None = Field(
        None, description="a column such as 'speaker_id': rows with the same value are in one split"
    )
    rows: Count = Field(10_000, description="most rows to read, from the first on")
    revision: str | None = Field(None, description="commit of the hub: without one, the data may change")
    train: Count = 3000
    validation: Count = 100
    test: Count = 300


class Recognize(Section):
    """Sounds to the text that is said in them: Whisper, Moonshine, wav2vec2 and HuBERT with CTC."""

    type: Literal["automatic-speech-recognition"]
    data: Annotated[SpokenPhrases | UtterancesFile | UtterancesDataset, Field(discriminator="source")]
    language: str | None = Field(
        None, description="code of the language that is spoken, for a model of many, such as 'en'"
    )
    window_s: float | None = Field(
        None,
        gt=0.5,
        le=30,
        description="seconds that the candidate reads at once, where that is less than the model's window: a "
        "short command then costs no half minute. Longer sounds are cut at silences",
    )
    max_tokens: int = Field(128, ge=8, le=448, description="most tokens of a window's transcript")


class ArraysFile(Section):
    """Inputs of a graph, in an ``.npz`` or made by a NumPy generator in ``file.py:function``.

    An entry of an ``.npz`` is called as its input, with an example a row, or with a call's number behind it,
    ``image.0``, for inputs that have no such axis. A generator gives one call after the other, input name ->
    array.
    """

    source: Literal["arrays"]
    path: str = Field(description="an .npz file, or file.py:function, next to the recipe")
    validation: Count = Field(50, description="calls that accuracy control measures on")
    test: Count = Field(200, description="calls to validate on; they travel in the package")


class OnnxGraph(Section):
    """Any ONNX file: arrays to arrays, judged by what the file itself gives. Nothing of torch is needed."""

    type: Literal["onnx"]
    data: ArraysFile
    metric: str | None = Field(
        None,
        pattern=r"^.+\.py:[A-Za-z_]\w*$",
        description="FILE.py:FUNCTION next to the recipe, called with the outputs and the inputs of a call, "
        "dicts of arrays; gives a number, better when higher, which gates know as 'metric'",
    )


class TextsFile(Section):
    """Your own texts: JSONL (``{"text", "group"?, "id"?}``), or plain text with blank lines in between."""

    source: Literal["file"]
    path: str = Field(description="a .jsonl or .txt file next to the recipe")
    train: Count = 6000
    validation: Count = 200
    test: Count = 500


class Generate(Section):
    """The beginning of a text to how it goes on: Llama, Qwen, GPT-2, Gemma, Phi, Mistral and their kin."""

    type: Literal["text-generation"]
    data: Annotated[PythonDocs | TextsFile, Field(discriminator="source")]
    max_tokens: int = Field(
        512,
        ge=32,
        le=32_768,
        description="that the package holds at once, prompt included; longer texts are cut in tuning",
    )


TaskSettings = (
    SentenceEmbedding
    | Translate
    | Recognize
    | Generate
    | OnnxGraph
    | Recommend
    | Custom
    | Classify
    | ClassifyImages
    | TagTokens
)
