"""What a variant of a recipe may be."""

import re
from pathlib import Path

import pytest

from edgelr.errors import UsageError
from edgelr.recipe.load import load_recipe, metrics_named
from edgelr.recipe.variants import places
from edgelr.recipe.yaml_file import read_yaml

NPU = "variants: {npu: {export: {operators: plain, shapes: {tokens: [8]}}, quantize: {scheme: a16w8}}}\n"


def with_variants(recipe: Path, text: str) -> Path:
    recipe.write_text(recipe.read_text() + text)
    return recipe


def test_a_variant_has_sections_of_its_own(tiny_recipe: Path) -> None:
    recipe = load_recipe(with_variants(tiny_recipe, NPU))
    variant = recipe.variants["npu"]
    assert (recipe.export.operators, variant.export.operators, variant.export.shapes.tokens) == (
        "fused",
        "plain",
        (8,),
    )
    assert variant.quantize is not None
    assert variant.quantize.scheme == "a16w8"


def test_left_out_a_variants_sections_are_what_they_are_in_a_recipe(tiny_recipe: Path) -> None:
    recipe = load_recipe(with_variants(tiny_recipe, "variants: {exact: {}}\n"))
    assert recipe.variants["exact"].quantize is None
    assert recipe.variants["exact"].export == recipe.export


@pytest.mark.parametrize(
    ("variants", "fault"),
    [
        ("{NPU: {}}", "variants.NPU: expected a name (a folder: "),
        ("{a/b: {}}", "variants['a/b']: expected a name (a folder: "),
        ("{qnn: {}}", "variants.qnn: is what something else is called: take another name"),
        ("{candidate: {}}", "variants.candidate: is what something else is called: take another name"),
        ("{npu: {quantise: {}}}", "variants.npu.quantise: unknown key; did you mean 'quantize'?"),
        ("{npu: {quantize: {scheme: a16w9}}}", "variants.npu.quantize.scheme: expected one of "),
        ("{npu: {quantize: {scheme: auto}}}", "variants.npu.quantize.scheme: auto is measured for "),
        ("{npu: {export: {top: 3}}}", "variants.npu.export.top: is for the task recommendation, "),
        (
            "{npu: {quantize: {scheme: a16w8, max_drop: {metric: bleu, value: 1}}}}",
            "variants.npu.quantize.max_drop.metric: unknown metric 'bleu'",
        ),
    ],
)
def test_a_fault_of_a_variant_is_told_as_any_other(tiny_recipe: Path, variants: str, fault: str) -> None:
    line = len(tiny_recipe.read_text().splitlines()) + 1
    with pytest.raises(UsageError, match=re.escape(f"tiny.yaml:{line}: {fault}")):
        load_recipe(with_variants(tiny_recipe, f"variants: {variants}\n"))


def test_a_metric_of_a_variant_is_known_by_its_place(tiny_recipe: Path) -> None:
    drop = "variants: {npu: {quantize: {scheme: a16w8, max_drop: {metric: cosine, value: 0.1}}}}\n"
    named = metrics_named(load_recipe(with_variants(tiny_recipe, drop)))
    assert named["variants.npu.quantize.max_drop.metric"] == "cosine"


def test_only_keys_of_export_and_quantize_may_stand_in_variants(tiny_recipe: Path) -> None:
    file = read_yaml(with_variants(tiny_recipe, NPU), what="recipe")
    assert places(file, ("export", "top")) == (("export", "top"), ("variants", "npu", "export", "top"))
    assert places(file, ("finetune",)) == (("finetune",),)
