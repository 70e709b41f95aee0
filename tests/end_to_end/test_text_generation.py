"""A causal language model from its folder and plain text to a package that is tuned, small and measured."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from edgelr.artifact_files import read_factored, read_plan, read_source
from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.examples import Passage
from edgelr.lowrank import graph_file
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.outcome import Report
from edgelr.pipeline import build
from edgelr.progress import Progress
from edgelr.quantize.constants import SMALLEST
from edgelr.quantize.stage import quantize
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.continue_text import continue_tokens, half_of, open_writer
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import open_package, seal_package
from edgelr.tasks.task import Reading, get_task
from edgelr.tasks.text_generation_model import readings_of
from edgelr.use import answer

RECIPE = """\
edgelr: 1
name: tiny-writer
task:
  type: text-generation
  max_tokens: 64
  data: {{source: file, path: texts.txt, train: 40, validation: 8, test: 12}}
model: {{path: {model}}}
compress:
  keep: {{parameters: 0.6}}
  vocabulary: true
  rank_multiple: 4
  calibration: {{examples: 12, sensitivity_examples: 6}}
finetune:
  {{steps: 4, batch: 4, precision: fp32, learning_rate: 1.0e-4, distill: {{hidden: 0.5}}, task_loss: 0.5,
   validate_every: 2, checkpoint_every: 2}}
quantize: {{scheme: weight-int4, min_cosine: 0.3}}
validate:
  devices: [cpu-1t]
  baselines: [dense-fp32]
  tokens: [8, 24]
  seconds: 0.5
  gates:
    - {{metric: perplexity, max_rise: 100000}}
    - {{metric: agreement, min: 0}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, text_lines: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("generation")
    (folder / "texts.txt").write_text("\n\n".join(dict.fromkeys(text_lines)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(home: Path, make_causal: Callable[[str], Path]) -> Report:
    recipe = home / "tiny-writer.yaml"
    recipe.write_text(RECIPE.format(model=make_causal("gpt2")), encoding="utf-8")
    return build(recipe, home / "out")


@pytest.fixture(scope="module")
def package(report: Report) -> Package:
    assert report.package is not None
    return open_package(report.package)


def made_by(home: Path, stage: str) -> list[Path]:
    return sorted(path.parent for path in (home / ".store" / stage).glob("*/manifest.json"))


def test_the_report_has_what_counts_for_texts_that_go_on(report: Report, package: Package) -> None:
    document = json.loads((report.out / "report.json").read_text(encoding="utf-8"))
    values = {(row["variant"], row["metric"]): row["value"] for row in document["accuracy"]}
    assert values["dense-fp32", "agreement"] == values["dense-fp32", "agreed_tokens"] == 1.0
    assert values["candidate", "perplexity"] > 1
    assert all(row["tokens_per_s"] > 0 and row["first_token_ms"] > 0 for row in document["latency"])
    assert (package.task, package.precision) == ("text-generation", "weight-int4")
    assert set(package.graphs) == {"decoder"}
    assert "perplexity is that of a token" in (report.out / "report.md").read_text(encoding="utf-8")


def test_layers_whose_weights_are_transposed_are_factored_and_so_is_the_tied_table(
    report: Report, home: Path
) -> None:
    plan = read_plan(made_by(home, "plan")[0])
    factored = {site for reduction in plan.reductions for site in reduction.sites}
    assert {"c_attn", "c_fc", "c_proj", "wte"} <= {site.split(".")[-1] for site in factored}
    assert len(plan.sites) == 2 * 4 + 2, "four matrices a layer, positions, and one table, which is the head"
    assert plan.candidate.parameters < 0.65 * plan.dense.parameters


def test_the_vocabulary_is_stored_once_and_no_matrix_is_left_in_fp32(package: Package) -> None:
    graph = onnx.load(package.folder / "decoder.onnx").graph
    tokens = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    tables = [each for each in graph.initializer if tokens in each.dims and np.prod(each.dims) > 8 * tokens]
    assert len({tuple(each.dims) for each in tables}) == 1, [list(each.dims) for each in tables]
    floats = [each for each in graph.initializer if each.data_type == TensorProto.FLOAT]
    assert not [each.name for each in floats if np.prod(each.dims) >= SMALLEST]


def test_the_fp32_package_writes_what_the_tuned_model_writes_in_torch(
    report: Report, home: Path, package: Package, cpu: Device
) -> None:
    """Token for token what transformers' generate() gives."""
    source = read_source(made_by(home, "load")[0])
    reading = Reading(folder=source.model_folder, max_tokens=64)
    model = get_task("text-generation").load_model(source.model_folder)
    tuned = load_factored_into(model, read_factored(made_by(home, "finetune")[0]))
    texts = folder_examples(package.folder, Passage)
    with torch.inference_mode():
        wanted = readings_of(tuned, reading, texts).continuations
    fp32 = next(each for path in made_by(home, "export") if "dense" not in (each := open_package(path)).name)
    writer = open_writer(fp32, cpu)
    for example, row in zip(texts, wanted, strict=True):
        prompt = half_of(writer.codec.encode(example.text)[:64], 64)
        found = list(continue_tokens(writer, prompt, len(row)))
        assert found == row[: len(found)].tolist()


def test_weights_beside_a_large_graph_go_through_quantization_and_use(
    dense_writer: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(dense_writer.folder, tmp_path / "large"))
    (folder / "package.json").unlink()
    monkeypatch.setattr(graph_file, "EXTERNAL_FROM_BYTES", 1000)
    graph_file.write_graph(onnx.load(folder / "decoder.onnx"), folder / "decoder.onnx")
    assert large_bytes(folder) > 50_000
    kept = ("name", "task", "graphs", "precision", "cost", "settings", "source", "gates", "accuracy")
    large = seal_package(folder, **{name: getattr(dense_writer, name) for name in kept})
    said = [
        answer(each, ["the License"], device="cpu-1t", max_tokens=8)["continuations"][0]["output"]
        for each in (dense_writer.folder, large.folder)
    ]
    assert said[0] == said[1]
    for scheme in ("weight-int4", "int8-dynamic"):
        (tmp_path / scheme).mkdir()
        settings = Quantize.model_validate({"scheme": scheme, "min_cosine": 0.3})
        small = quantize(large, settings, tmp_path / scheme, Progress(quiet=True))
        assert (small.folder / "decoder.onnx").stat().st_size < large_bytes(small.folder)
        assert large_bytes(small.folder) < 0.6 * large_bytes(large.folder)
        assert answer(small.folder, ["x"], device="cpu-1t", max_tokens=3)["continuations"][0]["tokens"] <= 3


def large_bytes(folder: Path) -> int:
    """Of the file with a decoder's weights; onnx appends to one that is there already."""
    return (folder / "decoder.onnx.data").stat().st_size
