import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError, UsageError
from edgelr.runtime.package import model_path, open_package, precisions, session_entries

Make = Callable[..., Package]


@pytest.fixture
def package(make_package: Make) -> Package:
    return make_package()


def change_manifest(package: Package, change: Callable[[dict[str, Any]], object]) -> None:
    path = package.folder / "package.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


# --- what is sealed is what is opened ---------------------------------------------------------------


def test_opening_gives_what_was_sealed(package: Package) -> None:
    assert open_package(package.folder) == package


def test_every_file_is_listed_but_the_manifest(package: Package) -> None:
    assert sorted(package.files) == [
        "examples.jsonl",
        "index.npz",
        "model.onnx",
        "reference.npz",
        "tokenizer.json",
    ]


def test_bytes_are_those_of_the_files(package: Package) -> None:
    assert package.cost.bytes == sum((package.folder / file).stat().st_size for file in package.files)


def test_the_same_content_is_sealed_to_the_same_bytes(make_package: Make) -> None:
    first, second = make_package("one"), make_package("two")
    for file in ("package.json", *first.files):
        assert (first.folder / file).read_bytes() == (second.folder / file).read_bytes(), file


def test_a_package_can_be_moved(package: Package, tmp_path: Path) -> None:
    moved = shutil.copytree(package.folder, tmp_path / "moved")
    assert open_package(moved).files == package.files


@pytest.mark.parametrize("file", ["session.json", "manifest.json"])
def test_measured_settings_and_the_store_s_manifest_may_come_later(package: Package, file: str) -> None:
    (package.folder / file).write_text("{}")
    assert open_package(package.folder) == package


# --- damage: each with the file it is in ------------------------------------------------------------


def test_one_flipped_bit_is_found(package: Package) -> None:
    path = package.folder / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=r"model\.onnx was changed") as caught:
        open_package(package.folder)
    assert caught.value.exit_code == 12


def test_a_missing_file_is_named(package: Package) -> None:
    (package.folder / "tokenizer.json").unlink()
    with pytest.raises(DamagedArtifactError, match=r"tokenizer\.json is missing"):
        open_package(package.folder)


def test_an_unlisted_file_is_named(package: Package) -> None:
    (package.folder / "extra.bin").write_bytes(b"x")
    with pytest.raises(DamagedArtifactError, match=r"extra\.bin is not in package\.json"):
        open_package(package.folder)


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc/passwd",
        "a/../../outside",
        "C:\\secret",
        "..\\outside",
        "./model.onnx",
        "session.json",
    ],
)
def test_a_manifest_that_names_a_file_outside_is_refused(package: Package, name: str) -> None:
    change_manifest(package, lambda document: document["files"].update({name: "0" * 64}))
    with pytest.raises(DamagedArtifactError, match="names a file outside its folder"):
        open_package(package.folder)


@pytest.mark.parametrize("file", ["model.onnx", "session.json"])
def test_a_link_out_is_refused(package: Package, tmp_path: Path, file: str) -> None:
    path = package.folder / file
    outside = tmp_path / "outside"
    outside.write_bytes(path.read_bytes() if path.exists() else b"{}")
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    with pytest.raises(DamagedArtifactError, match=f"{file} is a link"):
        open_package(package.folder)


def test_a_pipe_is_refused_and_never_waited_for(package: Package) -> None:
    (package.folder / "model.onnx").unlink()
    os.mkfifo(package.folder / "model.onnx")
    with pytest.raises(DamagedArtifactError, match=r"model\.onnx is a link or not a plain file"):
        open_package(package.folder)


def test_weights_outside_are_refused_although_every_hash_is_right(package: Package, reseal: Make) -> None:
    path = package.folder / "model.onnx"
    model = onnx.load(path)
    table = model.graph.initializer[0]
    table.ClearField("raw_data")
    table.data_location = onnx.TensorProto.EXTERNAL
    entry = table.external_data.add()
    entry.key, entry.value = "location", "../outside.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DamagedArtifactError, match=r"'table' is in '\.\./outside\.data'"):
        reseal(package.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("task"), "task is malformed: missing"),
        (lambda document: document.update(extra=1), "extra is malformed"),
        (lambda document: document.update(edgelr=2), r"format 2, newer than 1\n  update edgelr"),
        (lambda document: document["cost"].update(bytes="many"), r"cost\.bytes is malformed"),
        (lambda document: document["files"].update({"model.onnx": 5}), "files.*is malformed"),
        (
            lambda document: document["graphs"]["model"].update(file="gone.onnx"),
            r"'gone\.onnx' is not a file of it",
        ),
    ],
)
def test_a_malformed_manifest_is_named(
    package: Package, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_manifest(package, change)
    with pytest.raises(DamagedArtifactError, match=message):
        open_package(package.folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_named(package: Package, content: bytes) -> None:
    (package.folder / "package.json").write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=r"package\.json"):
        open_package(package.folder)


# --- paths that are no package ----------------------------------------------------------------------


def test_a_path_that_is_no_package_is_a_usage_error_with_a_hint(package: Package, tmp_path: Path) -> None:
    cases = {
        tmp_path / "nowhere": "there is no package at",
        tmp_path: r"not a package(.|\n)*the package is in it: .*/package",
        package.folder / "package.json": r"is a file(.|\n)*give its folder",
        package.folder / "model.onnx": "not a package",
    }
    for path, message in cases.items():
        with pytest.raises(UsageError, match=message) as caught:
            open_package(path)
        assert caught.value.exit_code == 2


# --- session.json and roles -------------------------------------------------------------------------


def test_session_settings_are_those_of_the_device(package: Package) -> None:
    assert session_entries(package, "cpu-1t") == {}
    entries = {"optimization.disable_specified_optimizers": "SkipLayerNormFusion"}
    (package.folder / "session.json").write_text(json.dumps({"cpu-1t": entries}))
    assert session_entries(package, "cpu-1t") == entries
    assert session_entries(package, "cpu-4t") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"cpu-1t": {"ep.context_file_path": "/tmp/x"}}',
            "sets 'ep.context_file_path', which is not about speed",
        ),
        ('{"cpu-1t": {"session.intra_op.allow_spinning": 0}}', "not device -> setting -> text"),
        ('{"cpu-1t": []}', "not device -> setting -> text"),
        ("[]", "not device -> setting -> text"),
        ("{", "cannot be read"),
    ],
)
def test_session_settings_that_are_not_about_speed_are_refused(
    package: Package, content: str, message: str
) -> None:
    (package.folder / "session.json").write_text(content)
    with pytest.raises(DamagedArtifactError, match=message):
        session_entries(package, "cpu-1t")


def test_a_role_is_a_file_or_an_error(package: Package) -> None:
    assert model_path(package) == package.folder / "model.onnx"
    with pytest.raises(DamagedArtifactError, match="no graph 'decoder'"):
        model_path(package, "decoder")


# --- sounds, which only validation needs --------------------------------------------------------------


@pytest.fixture
def speech(dense_speech: Package, tmp_path: Path) -> Package:
    """A copy to change."""
    return open_package(Path(shutil.copytree(dense_speech.folder, tmp_path / "speech")))


def test_bytes_are_those_of_an_app_without_the_sounds(speech: Package) -> None:
    sizes = {file: (speech.folder / file).stat().st_size for file in speech.files}
    sounds = {file for file in sizes if file.startswith("audio/")}
    assert len(sounds) == 12
    assert speech.cost.bytes == sum(size for file, size in sizes.items() if file not in sounds)


def test_sounds_may_be_taken_out(speech: Package) -> None:
    (speech.folder / "audio" / "03.flac").unlink()
    assert open_package(speech.folder) == speech
    shutil.rmtree(speech.folder / "audio")
    assert open_package(speech.folder) == speech


def test_sounds_may_not_be_changed(speech: Package) -> None:
    path = speech.folder / "audio" / "03.flac"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedArtifactError, match=r"03\.flac was changed: its sha256 is not that of"):
        open_package(speech.folder)


def test_sounds_may_not_be_added_either(speech: Package) -> None:
    (speech.folder / "audio" / "more.flac").write_bytes(b"x")
    with pytest.raises(DamagedArtifactError, match=r"more\.flac is not in package\.json"):
        open_package(speech.folder)


def test_only_the_folder_of_sounds_is_optional(speech: Package) -> None:
    (speech.folder / "features.onnx").unlink()
    with pytest.raises(DamagedArtifactError, match=r"features\.onnx is missing"):
        open_package(speech.folder)


def test_a_graph_may_not_hide_among_the_sounds(speech: Package) -> None:
    change_manifest(speech, lambda document: document["graphs"]["features"].update(file="audio/f.onnx"))
    with pytest.raises(DamagedArtifactError, match=r"'audio/f\.onnx' is not a file of it"):
        open_package(speech.folder)


def test_layers_may_have_precisions_of_their_own(package: Package, reseal: Make) -> None:
    assert precisions(package) == ("fp32",)
    path = package.folder / "quantization.json"
    rows = [{"scheme": scheme} for scheme in ("weight-int4", "fp32", "weight-int8", "weight-int4")]
    path.write_text(json.dumps({"layers": rows}), encoding="utf-8")
    mixed = reseal(package.folder, precision="weight-int4")
    assert precisions(mixed) == ("weight-int4", "fp32", "weight-int8")
    for content in ("[]", '{"layers": [5]}', "{"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DamagedArtifactError, match=r"quantization.json"):
            precisions(mixed)


# --- variants ---------------------------------------------------------------------------------------


def test_a_variant_is_named_and_no_part_of_what_a_device_downloads(varied: Package, package: Package) -> None:
    opened = open_package(varied.folder)
    assert opened == varied
    assert list(opened.variants) == ["npu"]
    assert opened.files == package.files
    assert opened.cost == package.cost
    assert open_package(varied.folder / "npu").precision == "a16w8", "it is a package like any other"


def test_without_variants_a_manifest_is_what_it_always_was(package: Package) -> None:
    assert "variants" not in json.loads((package.folder / "package.json").read_text())


def test_the_seal_of_a_package_is_over_that_of_its_variant(varied: Package) -> None:
    variant = varied.folder / "npu"
    (variant / "session.json").write_text("{}")
    assert open_package(varied.folder) == varied, "that one file may change"
    (variant / "model.onnx").write_bytes(b"another")
    with pytest.raises(DamagedArtifactError, match=r"npu/model\.onnx was changed"):
        open_package(variant)
    manifest = variant / "package.json"
    manifest.write_text(manifest.read_text().replace('"a16w8"', '"fp32"'))
    with pytest.raises(DamagedArtifactError, match=r"npu/package\.json was changed"):
        open_package(varied.folder)


def test_a_variant_may_be_deleted_but_not_added(varied: Package) -> None:
    (varied.folder / "npu").rename(varied.folder / "gpu")
    with pytest.raises(DamagedArtifactError, match=r"gpu/.* is not in package\.json"):
        open_package(varied.folder)
    shutil.rmtree(varied.folder / "gpu")
    assert open_package(varied.folder) == varied


def test_a_variant_is_inside_its_package(varied: Package) -> None:
    change_manifest(varied, lambda document: document.update(variants={"..": "0" * 64}))
    with pytest.raises(DamagedArtifactError, match="names a file outside its folder"):
        open_package(varied.folder)
