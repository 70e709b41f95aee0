"""Recipes that no NPU takes are told so before anything is computed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.fixed_sizes import check_fixed_sizes
from edgelr.recipe.load import load_recipe

NPU = load_devices()["qnn-htp-emulator"]
TASKS = {
    "translation": "data: {source: file, path: pairs.tsv}",
    "automatic-speech-recognition": "data: {source: file, path: utterances.jsonl}",
    "text-generation": "data: {source: file, path: texts.txt}",
    "sentence-embedding": "data: {source: file, path: pairs.tsv}",
}


def check(folder: Path, task: str, kind: object, operators: str, *devices: Device) -> None:
    path = folder / "r.yaml"
    path.write_text(
        f"edgelr: 1\nname: r\ntask:\n  type: {task}\n  {TASKS[task]}\nmodel: {{path: m}}\n"
        f"compress: {{keep: {{parameters: 0.5}}}}\nexport: {{operators: {operators}}}\n"
    )
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    check_fixed_sizes(load_recipe(path), path, devices, folder)


@pytest.mark.parametrize(
    ("task", "kind", "operators", "words"),
    [
        (
            "translation",
            "bart",
            "plain",
            "export.operators: plain is tested for decoders of marian, .*, and this model is a 'bart': "
            "set it to fused",
        ),
        (
            "translation",
            "marian",
            "fused",
            "export.operators: 'qnn-htp-emulator' takes fixed sizes only, and a cache of fused operators "
            "grows: set it to plain",
        ),
        (
            "automatic-speech-recognition",
            "moonshine",
            "plain",
            "validate.devices: .* and a moonshine reads sounds of any length: take a Whisper, or another",
        ),
        ("automatic-speech-recognition", "wav2vec2", "fused", "validate.devices: .* sounds of any length"),
        ("text-generation", "llama", "plain", "validate.devices: .* of a language model grows: take another"),
    ],
)
def test_what_cannot_run_there(tmp_path: Path, task: str, kind: str, operators: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(tmp_path, task, kind, operators, NPU)


def test_a_language_model_has_no_plain_decoder(tmp_path: Path, cpu: Device) -> None:
    words = r"r\.yaml:8: export\.operators: a plain decoder takes one token a call, .* set it to fused"
    with pytest.raises(UsageError, match=words):
        check(tmp_path, "text-generation", "llama", "plain", cpu)
    check(tmp_path, "text-generation", "llama", "fused", cpu)


def test_what_runs_is_let_through(tmp_path: Path, cpu: Device) -> None:
    for kind in ("marian", "m2m_100", "mbart", "t5"):
        check(tmp_path, "translation", kind, "plain", cpu, NPU)
    check(tmp_path, "automatic-speech-recognition", "whisper", "plain", NPU)
    check(tmp_path, "automatic-speech-recognition", "moonshine", "plain", cpu)
    check(tmp_path, "automatic-speech-recognition", "hubert", "plain", cpu)
    check(tmp_path, "translation", "bart", "fused", cpu)
    check(tmp_path, "translation", "bart", "fused", replace(NPU, evidence="static"))
    check(tmp_path, "sentence-embedding", "bert", "fused", NPU)
    check(tmp_path, "translation", None, "plain", cpu)  # whoever loads the model says what is wrong
