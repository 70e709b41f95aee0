"""The section ``task`` of a recipe that names what a text is about."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgelr.recipe.section import Count, Name, Section


class LabeledFile(Section):
    """Your own texts: CSV with a heading, JSONL (``{"text", "label", "group"?, "id"?}``), or TSV."""

    source: Literal["file"]
    path: str = Field(
        description="a .csv, .jsonl or .tsv file next to the recipe, with the labels as the model names them"
    )
    train: Count = Field(6000, description="texts to tune on")
    validation: Count = Field(300, description="texts to pick the best checkpoint on")
    test: Count = Field(500, description="texts to validate on; they travel in the package")


class DocstringModules(Section):
    """Docstrings of what is installed, labeled with the module that they belong to, whose name is masked."""

    source: Literal["python-docs"]
    packages: tuple[Name, ...] = Field(
        ("stdlib", "numpy"), min_length=1, description="where to look; 'stdlib' is Python itself"
    )
    modules: int = Field(20, ge=2, description="labels: the modules that have most docstrings")
    train: Count = Field(2000, description="texts to train and to tune on")
    validation: Count = Field(200, description="texts to pick the best checkpoint on")
    test: Count = Field(500, description="texts to validate on; they travel in the package")


class Classify(Section):
    """A text to one of several labels, by BERT, DistilBERT, RoBERTa or their kin with a head for it."""

    type: Literal["text-classification"]
    data: Annotated[DocstringModules | LabeledFile, Field(discriminator="source")]
    max_tokens: int = Field(
        128, ge=8, le=8192, description="longer texts are cut, in tuning and in the package"
    )


class TaggedFile(Section):
    """Your own tagged texts: CoNLL, JSONL (``{"text", "tags", "group"?, "id"?}``), or TSV."""

    source: Literal["file"]
    path: str = Field(
        description="a .conll, .jsonl or .tsv file next to the recipe; every word between spaces has a tag"
    )
    train: Count = Field(6000, description="texts to tune on")
    validation: Count = Field(300, description="texts to pick the best checkpoint on")
    test: Count = Field(500, description="texts to validate on; they travel in the package")


class TagTokens(Section):
    """A tag for each word of a text, such as names of people and places, by BERT and its kin."""

    type: Literal["token-classification"]
    data: TaggedFile
    max_tokens: int = Field(
        128, ge=8, le=8192, description="longer texts are cut, in tuning and in the package"
    )


class ImagesFile(Section):
    """Your own images as arrays: an ``.npz`` of ``pixel_values`` and ``labels``, a row an image."""

    source: Literal["file"]
    path: str = Field(
        description="an .npz file next to the recipe: pixel_values [images, channels, height, width] "
        "in float32 as the model's image processor gives them, and labels [images] of whole numbers"
    )
    train: Count = Field(2000, description="images to tune on")
    validation: Count = Field(200, description="images to pick the best checkpoint on")
    test: Count = Field(300, description="images to validate on; they travel in the package")


class ClassifyImages(Section):
    """An image to one of several labels, by ViT or its kin with a head for it."""

    type: Literal["image-classification"]
    data: ImagesFile
