"""A manifest names exactly what is there, and its key is the hash of exactly what went in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelr.errors import DamagedArtifactError
from edgelr.manifest import MANIFEST, artifact_key, ingredients_of, verify, write_manifest

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def some_ingredients(settings: object = None) -> dict[str, Any]:
    return ingredients_of(
        "plan", {"survey": "ab12"}, {"keep": 0.5} if settings is None else settings, {"edgelr": "1"}
    )


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "data").mkdir(parents=True)
    (folder / "plan.json").write_text('{"sites": []}')
    (folder / "data" / "train.jsonl").write_text("one\ntwo\n")
    write_manifest(folder, some_ingredients(), 1.5)
    return folder


def test_verify_returns_what_was_written(artifact: Path) -> None:
    manifest = verify(artifact)
    assert manifest["key"] == artifact_key(some_ingredients())
    assert manifest["inputs"] == {"survey": "ab12"}
    assert manifest["seconds"] == 1.5
    assert set(manifest["files"]) == {"plan.json", "data/train.jsonl"}
    assert manifest["files"]["data/train.jsonl"]["bytes"] == 8


@given(JSON_VALUES)
def test_the_key_survives_the_file(settings: object) -> None:
    ingredients = some_ingredients({"value": settings})
    assert artifact_key(json.loads(json.dumps(ingredients, indent=1))) == artifact_key(ingredients)


def test_tuples_number_keys_and_order_do_not_matter() -> None:
    one = some_ingredients({"ranks": (1, 2), "by_layer": {10: "a", 9: "b"}})
    other = some_ingredients({"by_layer": {"9": "b", "10": "a"}, "ranks": [1, 2]})
    assert artifact_key(one) == artifact_key(other)
    assert len(artifact_key(one)) == 20


@pytest.mark.parametrize("settings", [{"share": float("nan")}, {"share": float("inf")}])
def test_a_setting_that_json_cannot_hold_is_refused(settings: object) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        some_ingredients(settings)


@pytest.mark.parametrize("stage", ["", "..", "a/b", "/etc", "Plan", ".hidden"])
def test_a_stage_is_a_plain_folder_name(stage: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        ingredients_of(stage, {}, {}, {})


def truncate(folder: Path) -> str:
    (folder / "plan.json").write_text("{")
    return "plan.json has 1 bytes instead of 13"


def flip_a_bit(folder: Path) -> str:
    path = folder / "data" / "train.jsonl"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    return "train.jsonl was changed: its sha256 is not that of the manifest"


def delete(folder: Path) -> str:
    (folder / "plan.json").unlink()
    return "plan.json is missing"


def add(folder: Path) -> str:
    (folder / "data" / "more.jsonl").write_text("")
    return "more.jsonl is not in the manifest"


def link(folder: Path) -> str:
    (folder / "plan.json").rename(folder.parent / "elsewhere.json")
    (folder / "plan.json").symlink_to(folder.parent / "elsewhere.json")
    return "plan.json is a link or not a plain file"


def link_folder(folder: Path) -> str:
    (folder / "data").rename(folder.parent / "elsewhere")
    (folder / "data").symlink_to(folder.parent / "elsewhere")
    return "data is a link or not a plain file"


def drop_manifest(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    return "has no manifest.json"


def edit(folder: Path, **changes: object) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(document | changes))


def truncate_manifest(folder: Path) -> str:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])
    return "manifest.json cannot be read"


def empty_manifest(folder: Path) -> str:
    (folder / MANIFEST).write_bytes(b"")
    return "manifest.json cannot be read"


def nest_manifest(folder: Path) -> str:
    (folder / MANIFEST).write_text("[" * 100_000)
    return "manifest.json cannot be read"


def not_a_number(folder: Path) -> str:
    edit(folder, settings=float("nan"))
    return "manifest.json cannot be read"


def change_settings(folder: Path) -> str:
    edit(folder, settings={"keep": 0.25})
    return "its key is not that of its contents"


def other_schema(folder: Path) -> str:
    edit(folder, schema=2)
    return "is not a manifest of schema 1"


def more_fields(folder: Path) -> str:
    edit(folder, run="rm")
    return "fields are missing or too many"


def malformed_files(folder: Path) -> str:
    edit(folder, files=["plan.json"])
    return "malformed fields"


def malformed_entry(folder: Path) -> str:
    edit(folder, files=json.loads((folder / MANIFEST).read_text())["files"] | {"plan.json": "13"})
    return "plan.json is malformed"


def outside(folder: Path) -> str:
    edit(folder, files={"../../etc/passwd": {"bytes": 1, "sha256": "0"}})
    return r"names a file outside its folder: \.\./\.\./etc/passwd"


def absolute(folder: Path) -> str:
    edit(folder, files={"/etc/passwd": {"bytes": 1, "sha256": "0"}})
    return "names a file outside its folder: /etc/passwd"


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_bit,
        delete,
        add,
        link,
        link_folder,
        drop_manifest,
        truncate_manifest,
        empty_manifest,
        nest_manifest,
        not_a_number,
        change_settings,
        other_schema,
        more_fields,
        malformed_files,
        malformed_entry,
        outside,
        absolute,
    ],
)
def test_damage_is_found_and_named(artifact: Path, damage: Any) -> None:
    message = damage(artifact)
    with pytest.raises(DamagedArtifactError, match=message) as caught:
        verify(artifact)
    assert caught.value.exit_code == 12


def test_a_link_to_an_artifact_is_none(artifact: Path) -> None:
    link = artifact.with_name("link")
    link.symlink_to(artifact)
    with pytest.raises(DamagedArtifactError, match="is a link, not an artifact"):
        verify(link)


def test_a_missing_folder_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match="has no manifest"):
        verify(tmp_path / "absent")


def test_the_name_of_the_manifest_belongs_to_the_store(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(ValueError, match="belongs to the store"):
        write_manifest(tmp_path, some_ingredients(), 0.0)


def test_an_artifact_with_a_link_is_never_finished(tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to("/etc/hostname")
    with pytest.raises(DamagedArtifactError, match="is a link"):
        write_manifest(tmp_path, some_ingredients(), 0.0)
