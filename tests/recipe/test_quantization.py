import re
from pathlib import Path

import pytest

from edgelr.errors import UsageError
from edgelr.recipe.load import load_recipe

AWARE = "validate_every: 3, quantization_aware: true"


def changed(recipe: Path, *changes: tuple[str, str]) -> Path:
    text = recipe.read_text()
    for pattern, replacement in (("validate_every: 3", AWARE), *changes):
        text, count = re.subn(pattern, replacement, text)
        assert count == 1
    recipe.write_text(text)
    return recipe


def test_tuning_may_know_of_quantization(tiny_recipe: Path) -> None:
    finetune = load_recipe(changed(tiny_recipe)).finetune
    assert finetune is not None
    assert finetune.quantization_aware


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("quantize: .*\n", "", "there is nothing to be aware of: add a section quantize"),
        ("int8-dynamic", "fp16", "quantize.scheme fp16 rounds too little to be tuned for, or take it out"),
        ("int8-dynamic", "auto", "quantize.scheme auto is chosen when the tuning is over: name a scheme"),
        ("quantize:", "export: {pivot: true}\nquantize:", "export.pivot stores other factors than those"),
    ],
)
def test_what_cannot_be_tuned_for(tiny_recipe: Path, pattern: str, replacement: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"tiny.yaml:13: finetune.quantization_aware: {message}"):
        load_recipe(changed(tiny_recipe, (pattern, replacement)))


def test_ranks_for_a_latency_need_one_scheme(tiny_recipe: Path) -> None:
    text = tiny_recipe.read_text().replace("int8-dynamic", "auto")
    latency = "keep: {latency: {device: cpu-1t, speedup: 1.5, tokens: 16}}"
    tiny_recipe.write_text(text.replace("keep: {parameters: 0.6}", latency))
    with pytest.raises(UsageError, match=r"tiny.yaml:14: quantize.scheme: kernels are timed with one scheme"):
        load_recipe(tiny_recipe)


def test_relu_is_put_in_once(tiny_recipe: Path) -> None:
    text = tiny_recipe.read_text().replace("validate_every: 3", "validate_every: 3, activations: relu")
    tiny_recipe.write_text(text)
    load_recipe(tiny_recipe)
    tiny_recipe.write_text(text.replace("int8-dynamic", "int8-dynamic, activations: relu"))
    with pytest.raises(UsageError, match=r"quantize.activations: finetune.activations puts ReLU there"):
        load_recipe(tiny_recipe)
    variants = "variants: {npu: {quantize: {scheme: a16w8, activations: relu}}}\n"
    tiny_recipe.write_text(f"{text}\n{variants}")
    with pytest.raises(UsageError, match=r"npu.quantize.activations: finetune.activations puts ReLU there"):
        load_recipe(tiny_recipe)
