"""What a translation model is tuned on: see also ``test_sequence_losses.py``."""

from pathlib import Path
from typing import Any

from edgelr.examples import Translation
from edgelr.tasks.task import Reading
from edgelr.tasks.translation_losses import generated
from edgelr.tasks.translation_model import load_model

Pairs = tuple[Translation, ...]


def test_no_translation_is_longer_than_the_recipe_says(
    tiny_translator: Path, translator_reading: Reading, translations: Pairs
) -> None:
    """Whatever the model's own settings say, the package's length is the recipe's."""
    model: Any = load_model(tiny_translator)
    expected = generated(model, translator_reading, translations[:4])
    model.generation_config.max_new_tokens = 3
    assert generated(model, translator_reading, translations[:4]) == expected
    assert isinstance(model.generation_config.max_new_tokens, int)
