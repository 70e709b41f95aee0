"""The teacher that the script has made, and that travels with the recipe, is what it is said to be."""

import json
import math
import re
from pathlib import Path

TEACHER = Path(__file__).parents[2] / "recipes" / "cldr-en-de" / "teacher"


def header() -> dict[str, dict[str, object]]:
    """Tensors of the safetensors file, by name: what precedes the weights, 8 bytes of length and JSON."""
    with (TEACHER / "model.safetensors").open("rb") as file:
        document = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    no_parameters = {"__metadata__", "final_logits_bias"}  # a buffer
    return {name: entry for name, entry in document.items() if name not in no_parameters}


def test_it_has_eight_million_parameters_in_half_precision_and_less_than_30_mb() -> None:
    tensors = header()
    assert {entry["dtype"] for entry in tensors.values()} == {"F16"}
    parameters = sum(math.prod(entry["shape"]) for entry in tensors.values())  # type: ignore[call-overload]
    assert parameters >= 8_000_000
    assert f"| parameters | {parameters:,} |" in (TEACHER / "README.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in TEACHER.iterdir()) < 30e6


def test_seed_command_log_and_score_are_kept() -> None:
    card = (TEACHER / "README.md").read_text(encoding="utf-8")
    assert re.search(r"scripts/train_translation_teacher\.py --steps \d+ .*seed \d", card)
    exact = re.search(r"exact match \| (0\.\d+) of \d+ test pairs", card)
    assert exact is not None
    assert float(exact[1]) >= 0.95
    assert (TEACHER / "training.log").stat().st_size > 0
