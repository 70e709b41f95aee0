"""The store: the same ingredients give the same folder, built once, whole, checked, whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr import store as store_module
from edgelr.errors import DamagedArtifactError, StorageError
from edgelr.manifest import MANIFEST
from edgelr.progress import Progress
from edgelr.store import Store, Stored, code_digest, verify

# The same build in another process, so that it can be killed, starved or made to wait.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from edgelr.errors import EdgelrError
from edgelr.progress import Progress
from edgelr.store import Store

root, mode, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
armed = False

def kill(event, arguments):
    if armed and event == mode and str(root) in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

def build(folder, scratch):
    global armed
    with open(root / "builds", "a") as file:
        file.write(f"{os.getpid()}\\n")
    (scratch / "checkpoint").write_text("step 3")
    (folder / "text").write_text("hello")
    if mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "slow":
        time.sleep(1.5)
    (folder / "weights").write_bytes(bytes(size))
    armed = True

sys.addaudithook(kill)
try:
    stored = Store(root, Progress(plain=True)).get_or_build(
        "survey", inputs={"source": "ab12"}, settings={"seed": 0}, versions={"edgelr": "1"},
        build=build, read=lambda folder: (folder / "text").read_text())
    print("reused" if stored.reused else "built")
except EdgelrError as error:
    print(error.exit_code, error)
    print("left:", *(path.suffix for path in root.glob("survey/.*")))
"""


def command(root: Path, mode: str = "plain", size: int = 10) -> list[str]:
    return [sys.executable, "-c", SCRIPT, str(root), mode, str(size)]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)


def get(
    root: Path,
    *,
    stage: str = "survey",
    inputs: dict[str, str] | None = None,
    settings: object = None,
    versions: dict[str, str] | None = None,
    build: Callable[[Path, Path], object] | None = None,
    read: Callable[[Path], str] = lambda folder: (folder / "text").read_text(),
    progress: Progress | None = None,
) -> Stored[str]:
    """Same ingredients as the script unless told otherwise."""
    return Store(root, progress or Progress(quiet=True)).get_or_build(
        stage,
        inputs={"source": "ab12"} if inputs is None else inputs,
        settings={"seed": 0} if settings is None else settings,
        versions={"edgelr": "1"} if versions is None else versions,
        build=build or (lambda folder, scratch: (folder / "text").write_text("hello")),
        read=read,
    )


def never(folder: Path, scratch: Path) -> None:
    raise AssertionError("must not be built")


def names(root: Path) -> set[str]:
    return {path.name for path in (root / "survey").iterdir() if path.suffix != ".lock"}


# --- the key ---------------------------------------------------------------------------------------


def test_the_same_ingredients_are_built_once(tmp_path: Path) -> None:
    first = get(tmp_path)
    second = get(tmp_path, build=never)
    assert (first.reused, second.reused) == (False, True)
    assert first.artifact == second.artifact == "hello"
    assert (first.key, first.folder, first.seconds) == (second.key, second.folder, second.seconds)
    assert names(tmp_path) == {first.key}
    assert verify(first.folder)["settings"] == {"seed": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "plan"},
        {"inputs": {"source": "cd34"}},
        {"inputs": {"other": "ab12"}},
        {"settings": {"seed": 1}},
        {"settings": {"seed": 0, "keep": None}},
        {"versions": {"edgelr": "2"}},
        {"versions": {"edgelr": "1", "code": code_digest("store")}},
    ],
)
def test_each_ingredient_changes_the_key(tmp_path: Path, change: dict[str, object]) -> None:
    first = get(tmp_path)
    other = get(tmp_path, **change)  # type: ignore[arg-type]
    assert not other.reused
    assert other.key != first.key
    assert get(tmp_path, build=never).key == first.key


def test_the_format_of_the_store_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get(tmp_path)
    monkeypatch.setattr("edgelr.manifest.SCHEMA", 2)
    assert get(tmp_path).key != first.key


def test_the_code_digest_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "survey").mkdir()
    for name in ("store.py", "survey/__init__.py", "survey/sites.py", "other.py"):
        (tmp_path / name).write_text(f"# {name}\n")
    monkeypatch.setattr(store_module, "__file__", str(tmp_path / "store.py"))

    def digest() -> str:
        code_digest.cache_clear()
        return code_digest("survey", "store")

    first = digest()
    assert digest() == first
    (tmp_path / "other.py").write_text("# not asked for\n")
    assert digest() == first
    (tmp_path / "survey" / "sites.py").write_text("# changed\n")
    second = digest()
    assert second != first
    (tmp_path / "survey" / "sites.py").rename(tmp_path / "survey" / "moved.py")
    assert digest() not in (first, second)
    code_digest.cache_clear()


def test_the_code_digest_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no module 'surveys'"):
        code_digest("surveys")
    assert code_digest("store") != code_digest("writing")


# --- scratch ---------------------------------------------------------------------------------------


def test_scratch_outlives_a_failure_and_goes_with_success(tmp_path: Path) -> None:
    def fail(folder: Path, scratch: Path) -> None:
        (folder / "half").write_text("")
        (scratch / "checkpoint").write_text("step 3")
        raise RuntimeError("a bug")

    def resume(folder: Path, scratch: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "text").write_text((scratch / "checkpoint").read_text())

    with pytest.raises(RuntimeError, match="a bug"):
        get(tmp_path, build=fail)
    [left] = names(tmp_path)
    assert left.endswith(".scratch")
    stored = get(tmp_path, build=resume)
    assert stored.artifact == "step 3"
    assert names(tmp_path) == {stored.key}


def test_ctrl_c_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(folder: Path, scratch: Path) -> None:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(tmp_path, build=interrupt)
    assert names(tmp_path) == set()
    assert not get(tmp_path).reused


# --- kills -----------------------------------------------------------------------------------------


def test_a_kill_in_the_middle_of_a_build(tmp_path: Path) -> None:
    assert run(command(tmp_path, "kill")).returncode == -9
    finished = [path for path in (tmp_path / "survey").glob("*/") if (path / MANIFEST).exists()]
    assert finished == []

    def resume(folder: Path, scratch: Path) -> None:
        assert (scratch / "checkpoint").read_text() == "step 3"
        (folder / "text").write_text("resumed")

    stored = get(tmp_path, build=resume)
    assert stored.artifact == "resumed"
    assert names(tmp_path) == {stored.key}


@pytest.mark.parametrize(
    ("event", "reused"), [("open", False), ("os.rename", False), ("shutil.rmtree", True)]
)
def test_a_kill_while_finishing(tmp_path: Path, event: str, reused: bool) -> None:
    """While hashing, just before the rename, and right after it."""
    assert run(command(tmp_path, event)).returncode == -9
    stored = get(tmp_path)
    assert (stored.reused, stored.artifact) == (reused, "hello")
    assert names(tmp_path) == {stored.key}


def test_leftovers_of_other_keys_go_too_unless_they_are_being_built(tmp_path: Path) -> None:
    assert run(command(tmp_path, "kill")).returncode == -9
    [dead] = [name for name in names(tmp_path) if name.endswith(".tmp")]
    assert get(tmp_path, settings={"seed": 5}).key not in dead
    assert dead not in names(tmp_path)

    with subprocess.Popen(command(tmp_path, "slow"), stdout=subprocess.PIPE, text=True) as other:
        while not any(name.endswith(".tmp") for name in names(tmp_path)):
            time.sleep(0.02)
        get(tmp_path, settings={"seed": 6})
        assert other.communicate(timeout=60)[0] == "built\n"


# --- two at once -----------------------------------------------------------------------------------


def test_a_second_build_waits_and_reuses(tmp_path: Path) -> None:
    first = subprocess.Popen(command(tmp_path, "slow"), stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "builds").exists():
        time.sleep(0.02)
    second = run(command(tmp_path, "slow"))
    assert first.communicate(timeout=60)[0] == "built\n"
    assert second.stdout == "reused\n"
    assert f"waiting for another build (pid {first.pid}) to finish survey" in second.stderr
    assert (tmp_path / "builds").read_text() == f"{first.pid}\n"


def test_many_at_the_same_moment_build_once(tmp_path: Path) -> None:
    started = [subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = sorted(process.communicate(timeout=60)[0] for process in started)
    assert said == ["built\n", "reused\n", "reused\n", "reused\n"]
    assert len((tmp_path / "builds").read_text().splitlines()) == 1


def test_a_waiting_build_takes_over_from_a_killed_one(tmp_path: Path) -> None:
    first = subprocess.Popen(command(tmp_path, "slow"))
    while not (tmp_path / "builds").exists():
        time.sleep(0.02)
    second = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    first.kill()
    first.wait()
    assert second.communicate(timeout=60)[0] == "built\n"


# --- damage ----------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, 2)


def flip_a_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("file", ["text", MANIFEST])
def test_a_damaged_artifact_is_set_aside_and_built_again(
    tmp_path: Path, damage: Callable[[Path], object], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = get(tmp_path).key
    damage(tmp_path / "survey" / key / file)
    progress = Progress(plain=True)
    again = get(tmp_path, progress=progress)
    assert (again.key, again.artifact, again.reused) == (key, "hello", False)
    assert names(tmp_path) == {key, f"{key}.damaged-1"}
    [warning] = progress.warnings
    assert file in warning
    assert f"set aside as {key}.damaged-1, building survey again" in capsys.readouterr().err
    assert get(tmp_path, build=never).reused


def test_every_damaged_artifact_is_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        stored = get(tmp_path)
        truncate(stored.folder / "text")
        get(tmp_path)
        assert (tmp_path / "survey" / f"{stored.key}.damaged-{number}").is_dir()


def test_an_artifact_under_a_wrong_key_is_set_aside(tmp_path: Path) -> None:
    other = get(tmp_path, settings={"seed": 7})
    key = get(tmp_path).key
    stale = tmp_path / "survey" / key
    for path in stale.iterdir():
        path.unlink()
    stale.rmdir()
    other.folder.rename(stale)
    progress = Progress(quiet=True)
    assert not get(tmp_path, progress=progress).reused
    assert f"holds another artifact: {other.key}" in progress.warnings[0]


def test_a_link_in_the_place_of_an_artifact_is_set_aside(tmp_path: Path) -> None:
    stored = get(tmp_path)
    stored.folder.rename(tmp_path / "elsewhere")
    stored.folder.symlink_to(tmp_path / "elsewhere")
    assert not get(tmp_path).reused
    assert not stored.folder.is_symlink()
    assert (tmp_path / "elsewhere" / "text").exists()


def test_what_cannot_be_read_is_built_again_once(tmp_path: Path) -> None:
    get(tmp_path, build=lambda folder, scratch: (folder / "text").write_text("old format"))

    def read(folder: Path) -> str:
        text = (folder / "text").read_text()
        if text != "hello":
            raise DamagedArtifactError(f"{folder / 'text'} has an old format")
        return text

    progress = Progress(quiet=True)
    assert get(tmp_path, read=read, progress=progress).artifact == "hello"
    assert "has an old format" in progress.warnings[0]


def test_what_cannot_be_read_just_after_it_was_built_is_an_error(tmp_path: Path) -> None:
    def read(folder: Path) -> str:
        raise DamagedArtifactError("never readable")

    get(tmp_path)
    with pytest.raises(DamagedArtifactError, match="never readable"):
        get(tmp_path, read=read)


def test_a_build_that_leads_outside_is_never_finished(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match="model is a link"):
        get(tmp_path, build=lambda folder, scratch: (folder / "model").symlink_to("/etc"))
    assert names(tmp_path) == set()


# --- disks -----------------------------------------------------------------------------------------


def on_a_tiny_disk(folder: Path, arguments: list[str], options: str) -> subprocess.CompletedProcess[str]:
    """Run with a tiny file system at ``folder``, or without mounts, with a limit on file sizes."""
    mount = 'mount -t tmpfs -o "$1" edgelr "$2" && shift 2 && exec "$@"'
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", options, str(folder)]
    if run([*inside, "true"]).returncode == 0:
        return run([*inside, *arguments])
    return run(["sh", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$@"', "sh", *arguments])


@pytest.mark.parametrize("size", [100_000, 64 * 1024 - 3 * 4096], ids=["in the build", "in the manifest"])
def test_a_full_disk(tmp_path: Path, size: int) -> None:
    """The second size leaves not one block: three small files and the weights fill the disk."""
    result = on_a_tiny_disk(tmp_path, command(tmp_path / "store", size=size), "size=64k")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"13 cannot write to {tmp_path / 'store'}")
    assert "the disk is full" in result.stdout or "a file would be larger than is allowed" in result.stdout
    assert result.stdout.endswith("left:\n")


def test_a_read_only_disk() -> None:
    root = Path(
        "/sys/store"
    )  # under a read-only mount, or where mounts are forbidden, as it is: nobody may write
    result = on_a_tiny_disk(root.parent, command(root), "ro")
    assert result.stdout.startswith(f"13 cannot write to {root}: "), result.stderr


def test_a_folder_that_nobody_may_write() -> None:
    forbidden = Path("/sys") if Path("/sys").is_dir() else Path("/System")
    with pytest.raises(StorageError, match="cannot write to") as caught:
        get(forbidden / "edgelr")
    assert caught.value.exit_code == 13


@pytest.mark.parametrize("blocked", ["store", "store/survey"])
def test_a_file_in_the_place_of_the_store(tmp_path: Path, blocked: str) -> None:
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("a file")
    with pytest.raises(StorageError, match="a file is in the place of a folder"):
        get(tmp_path / "store")
    assert (tmp_path / blocked).read_text() == "a file"
