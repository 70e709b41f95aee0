"""A model that is too large for the memory: stage by stage the same as one that is not, in less memory."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.pipeline import build
from edgelr.tasks import stored_model
from edgelr.tasks.text_generation_model import load_model

ROOT = Path(__file__).parent.parent.parent
RECIPE = """\
edgelr: 1
name: tiny-writer
task:
  type: text-generation
  max_tokens: 48
  data: {{source: file, path: texts.txt, train: 8, validation: 4, test: 4}}
model: {{path: model}}
compress:
  keep: {{parameters: 0.6}}
  vocabulary: true
  rank_multiple: 4
  calibration: {{examples: 6, sensitivity_examples: 3}}
  {settings}
validate: {{tokens: [8]}}
"""


@pytest.mark.parametrize(
    ("family", "settings", "until"),
    [
        ("gpt2", "refine: true", "compress"),
        pytest.param("llama", "factors: whitened", "export", marks=pytest.mark.slow),
    ],
)
def test_every_stage_gives_the_same_to_the_bit(
    family: str,
    settings: str,
    until: str,
    make_causal: Callable[[str], Path],
    text_lines: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = load_model(make_causal(family)).bfloat16()
    made = {}
    for share in (stored_model.LARGEST_SHARE, 0.0):
        home = tmp_path / str(share)
        shutil.copytree(make_causal(family), home / "model", ignore=shutil.ignore_patterns("*.safetensors"))
        half.save_pretrained(home / "model", max_shard_size="20KB")  # type: ignore[operator]
        (home / "texts.txt").write_text("\n\n".join(dict.fromkeys(text_lines)), encoding="utf-8")
        (home / "tiny-writer.yaml").write_text(RECIPE.format(settings=settings), encoding="utf-8")
        monkeypatch.setattr(stored_model, "LARGEST_SHARE", share)
        build(home / "tiny-writer.yaml", home / "out", until=until)
        made[share] = digests(home / ".store")
    whole, kept = made.values()
    assert {name.split("/")[-1] for name in whole} >= {"plan.json", "spectra.npz", "weights.safetensors"}
    assert kept == whole


def digests(store: Path) -> dict[str, str]:
    """What the stages made, by stage and name; a manifest has times in it, the source the model's folder."""
    return {
        f"{path.parent.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.glob("*/*/*")
        if path.is_file() and path.name not in {"manifest.json", "source.json"}
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process can be set back on Linux only")
def test_every_stage_takes_less_by_most_of_the_model() -> None:
    """A peak may be above the model's bytes: activations, statistics and copies of graphs are in it too."""
    command = [
        sys.executable,
        str(ROOT / "scripts/benchmarks/large_models.py"),
        "--megabytes",
        "100",
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for stage, peak in found["peak_bytes"].items():
        assert peak["files"] < peak["whole"] - 0.5 * found["model_bytes"], (stage, found)
