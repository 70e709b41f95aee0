"""Another machine: with ssh to this one where there is a server, else with a shell in its place."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.progress import Progress
from edgelr.recipe.schema import Validation
from edgelr.runners.ssh import open_ssh, program, remote_command
from edgelr.runtime.package import model_path
from edgelr.validate.across import compare_across
from edgelr.validate.stage import validate

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
FEEDS = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.array([[1, 1, 0]])}


@pytest.fixture
def board(cpu: Device) -> Device:
    return replace(cpu, name="board", runner="ssh", host="pi@board", python=sys.executable)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of ssh a program that gives its last word to a shell, as the other machine would."""
    stand_in(tmp_path, monkeypatch, 'for last in "$@"; do :; done\ncd /; exec sh -c "$last"')
    return tmp_path


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    place = folder / "bin"
    place.mkdir()
    (place / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (place / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


@pytest.mark.usefixtures("shell")
def test_a_shell_in_its_place_computes_the_same_and_tells_places(
    make_package: Callable[..., Package], cpu: Device, board: Device
) -> None:
    path = model_path(make_package())
    entries = {"session.record_ep_graph_assignment_info": "1"}
    there = open_session(path, board, entries=entries)
    np.testing.assert_array_equal(there.run(None, FEEDS), open_session(path, cpu).run(None, FEEDS))
    parts = there.get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == {"CPUExecutionProvider"}
    assert sum(len(part.get_nodes()) for part in parts) == 12


@pytest.mark.usefixtures("shell")
def test_a_provider_that_is_not_there_is_an_error(
    make_package: Callable[..., Package], board: Device
) -> None:
    odd = replace(board, provider="CUDAExecutionProvider")
    with pytest.raises(UnsupportedModelError, match="CUDAExecutionProvider is not in its ONNX Runtime"):
        open_session(model_path(make_package()), odd)


@pytest.mark.usefixtures("shell")
def test_a_node_that_fails_at_run_time_is_told(make_package: Callable[..., Package], board: Device) -> None:
    there = open_session(model_path(make_package()), board)
    beyond = {**FEEDS, "input_ids": np.array([[5, 6, 10**6]])}
    with pytest.raises(UnsupportedModelError, match=r"fails there: .*Gather"):
        there.run(None, beyond)
    assert there.run(None, FEEDS)[0].shape[0] == 1, "and the next call runs"


def test_a_machine_that_is_not_reached_says_what_has_to_work(
    make_package: Callable[..., Package], board: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "echo 'ssh: no route to host' >&2; exit 255")
    with pytest.raises(MissingRequirementError, match=r"\(exit code 255\): ssh: no route to host") as caught:
        open_session(model_path(make_package()), board)
    assert caught.value.exit_code == 3
    assert caught.value.hint is not None
    assert "ssh pi@board" in caught.value.hint


@pytest.mark.usefixtures("shell")
def test_a_machine_without_its_python_says_so(make_package: Callable[..., Package], board: Device) -> None:
    bare = replace(board, python="no-such-python")
    with pytest.raises(MissingRequirementError, match="no-such-python"):
        open_ssh(model_path(make_package()), bare, {})


def test_what_is_sent_is_all_that_it_needs(tmp_path: Path) -> None:
    """Nothing of edgelr is looked for on the other machine."""
    command = ["sh", "-c", remote_command(sys.executable)]
    done = subprocess.run(command, input=program(), capture_output=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.usefixtures("shell")
def test_a_package_is_scored_there_and_not_timed(
    make_package: Callable[..., Package], cpu: Device, board: Device, tmp_path: Path
) -> None:
    settings = Validation.model_validate({"seconds": 0.1, "tokens": (8,)})
    packages = {"candidate": make_package()}
    found = validate(packages, [board], settings, tmp_path / "verdict", Progress(quiet=True))
    assert {row.device for row in found.accuracy} == {"board"}
    assert [(row.provider, row.nodes, row.evidence) for row in found.placement] == [(cpu.provider, 12, "run")]
    assert found.latency == ()
    assert any("times would be those of the network" in note for note in found.notes)


# --- a real server ----------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An ssh server on this machine, with keys of its own; and ssh that knows it as ``board``."""
    if SSHD is None or shutil.which("ssh") is None or os.name == "nt":
        pytest.skip("apt-get install openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        f"HostKey={tmp_path / 'host'}",
        f"AuthorizedKeysFile={tmp_path / 'user.pub'}",
        "StrictModes=no",
    ]
    options += ["ListenAddress=127.0.0.1", "UsePAM=no", f"PidFile={tmp_path / 'pid'}", "PermitRootLogin=yes"]
    (tmp_path / "config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {tmp_path / 'user'}\n  UserKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking no\n  LogLevel ERROR\n"
    )
    stand_in(tmp_path, monkeypatch, f'exec {shutil.which("ssh")} -F {tmp_path / "config"} "$@"')
    Path("/run/sshd").mkdir(exist_ok=True)
    flags = [word for option in options for word in ("-o", option)]
    daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", "/dev/null", "-p", str(port), *flags])
    try:
        for _ in range(50):
            if socket.socket().connect_ex(("127.0.0.1", port)) == 0:
                break
            time.sleep(0.1)
        yield "board"
    finally:
        daemon.terminate()
        daemon.wait()


def test_over_ssh_it_agrees_with_this_processor(
    make_package: Callable[..., Package], board: Device, server: str
) -> None:
    there = replace(board, host=server)
    note = compare_across(make_package(), there, (3, 5, 9))
    assert note is not None
    assert note.startswith("board agrees with cpu-1t on 6 inputs of 3 lengths: 1 - cosine at most 0.0e+00")
    assert note.endswith("(run)")
