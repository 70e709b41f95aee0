import hashlib
import json
import shutil
from typing import get_args

import pytest

from edgelr.errors import DataError, QuantizeError
from edgelr.progress import Progress
from edgelr.quantize.calibration import Data, data_of_package
from edgelr.quantize.stage import quantize, quantize_graph
from edgelr.recipe.quantize import Quantize, Scheme
from edgelr.runtime.package import open_package


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def fp32(built, tmp_path):
    source = next((built / ".store" / "export").glob("*/package.json")).parent
    shutil.copytree(source, tmp_path / "fp32")
    return open_package(tmp_path / "fp32")


def run(package, folder, min_cosine: float, scheme: Scheme = "int8-dynamic"):
    folder.mkdir()
    settings = Quantize(scheme=scheme, min_cosine=min_cosine)
    return quantize(package, settings, folder, Progress(quiet=True))


def test_the_result_is_smaller_deterministic_and_the_input_unchanged(fp32, tmp_path):
    before = digests(fp32.folder)
    one, two = (run(fp32, tmp_path / name, 0.5) for name in ("a", "b"))
    assert digests(fp32.folder) == before
    assert digests(one.folder) == digests(two.folder)
    assert one.precision == "int8-dynamic"
    model = "model.onnx"
    assert (one.folder / model).stat().st_size < 0.6 * (fp32.folder / model).stat().st_size
    for name in ("examples.jsonl", "reference.npz", "tokenizer.json"):
        assert one.files[name] == fp32.files[name]
    assert open_package(one.folder) == one


@pytest.mark.parametrize(("scheme", "cosine"), [("weight-int8", 0.999), ("weight-int4", 0.9)])
def test_blocks_of_weights(fp32, tmp_path, scheme, cosine):
    package = run(fp32, tmp_path / scheme, cosine, scheme)
    assert package.precision == scheme
    assert open_package(package.folder) == package


def test_too_far_from_fp32_fails_with_both_numbers(fp32, tmp_path):
    with pytest.raises(
        QuantizeError, match=r"mean cosine of int8-dynamic to fp32 is 0\.\d+, quantize.min_co"
    ):
        run(fp32, tmp_path / "a", 1.0)


# --- with data: every scheme, what is said of the layers, accuracy control ----------------------------


def with_data(package, folder, **settings):
    folder.mkdir()
    wanted = Quantize.model_validate({"min_cosine": 0.5, **settings})
    quantized = quantize(package, wanted, folder, Progress(quiet=True), data_of_package(package))
    assert open_package(folder) == quantized
    return json.loads((folder / "quantization.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_what_became_of_each_layer_travels_with_the_package(fp32, tmp_path, scheme):
    document = with_data(fp32, tmp_path / "q", scheme=scheme)
    changes = [row["output_change"] for row in document["layers"]]
    assert changes == sorted(changes, reverse=True)
    assert {row["scheme"] for row in document["layers"]} == {scheme}
    assert "encoder.layer.0.output.dense" in {row["layer"].removesuffix(".up") for row in document["layers"]}
    # Tables of a model this tiny are too small to be quantized, but as fp16.
    assert bool(document["warnings"]) is (scheme != "fp16")


def test_globs_are_those_of_all_graphs(fp32, dense_translator, tmp_path):
    document = with_data(
        dense_translator,
        tmp_path / "q",
        scheme="weight-int8",
        layers={"encoder.*": "fp32", "lm_head": "int8-dynamic"},
    )
    schemes = {(row["graph"], row["scheme"]) for row in document["layers"]}
    assert {("encoder", "fp32"), ("decoder", "weight-int8")} <= schemes
    with pytest.raises(QuantizeError, match="matches none of the"):
        with_data(fp32, tmp_path / "r", scheme="fp16", layers={"decoder.*": "fp32"})


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_both_graphs_of_a_translation(dense_translator, tmp_path, scheme):
    document = with_data(dense_translator, tmp_path / "q", scheme=scheme)
    assert {row["graph"] for row in document["layers"]} == {"encoder", "decoder"}
    least_db = 10 if scheme == "weight-int4" else 20
    assert all(row["alone_db"] > least_db for row in document["layers"])


def test_accuracy_control_says_what_it_kept(fp32, tmp_path):
    plain = with_data(fp32, tmp_path / "plain", scheme="weight-int4")
    assert "control" not in plain
    wanted = {"metric": "cosine", "value": 0.004}
    document = with_data(fp32, tmp_path / "kept", scheme="weight-int4", max_drop=wanted)
    control = document["control"]
    assert control["drop"] <= 0.004 < control["drop_without"]
    assert control["evaluations"] <= 25
    kept = [
        row["layer"] for row in document["layers"] if row["reason"].startswith("kept by quantize.max_drop")
    ]
    assert sorted(kept) == sorted(control["kept"])
    assert 0 < len(kept) < len(document["layers"])
    with pytest.raises(QuantizeError, match=r"cosine loses .* at least, 0.0 is allowed"):
        with_data(
            fp32,
            tmp_path / "never",
            scheme="int8-dynamic",
            vocabulary="int4",
            max_drop={**wanted, "value": 0.0},
            layers={"encoder.*": "weight-int4"},
        )


def test_data_that_is_needed(fp32, tmp_path):
    for settings, message in (
        ({"scheme": "int8-static"}, "int8-static needs calibration data"),
        ({"scheme": "int8-dynamic", "layers": {"*": "fp16"}}, "fp16 needs calibration data"),
        ({"scheme": "weight-int8", "activations": "relu"}, "activations: relu needs calibration data"),
        (
            {"scheme": "int8-dynamic", "max_drop": {"metric": "cosine", "value": 0.1}},
            "needs validation examples",
        ),
    ):
        if "max_drop" not in settings:
            with pytest.raises(DataError, match=message):
                quantize_graph(
                    fp32.folder / "model.onnx", tmp_path / "q.onnx", Quantize.model_validate(settings)
                )
        with pytest.raises(DataError, match=message):
            quantize(fp32, Quantize.model_validate(settings), tmp_path, Progress(quiet=True))
    with pytest.raises(DataError, match=r"no calibration data for model.onnx"):
        quantize(fp32, Quantize(scheme="fp16"), tmp_path, Progress(quiet=True), Data(feeds={"model": []}))


def test_what_makes_features_of_sound_stays_exact(dense_speech, small_speech):
    assert small_speech.precision == "int8-dynamic"
    for file in ("features.onnx", "generation.json", "tokenizer.json", "reference.npz", "audio/00.flac"):
        assert (small_speech.folder / file).read_bytes() == (dense_speech.folder / file).read_bytes()
    for role in ("encoder", "decoder"):
        assert small_speech.files[f"{role}.onnx"] != dense_speech.files[f"{role}.onnx"]
    assert small_speech.cost.bytes < dense_speech.cost.bytes
    assert open_package(small_speech.folder) == small_speech


def test_weights_that_were_tuned_for_plain_rounding_are_rounded_plainly(fp32, tmp_path):
    plain = run(fp32, tmp_path / "plain", 0.5, "weight-int4")
    models = []
    for tuned in (True, False):
        folder = tmp_path / str(tuned)
        folder.mkdir()
        settings, data = Quantize(scheme="weight-int4", min_cosine=0.5), data_of_package(fp32)
        quantized = quantize(fp32, settings, folder, Progress(quiet=True), data, tuned=tuned)
        models.append(quantized.files["model.onnx"])
    assert models[0] == plain.files["model.onnx"] != models[1]
