"""What the browser is served, and nothing else."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgelr.runners.web_server import PAGE, WebServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    for name in (
        "library/ort.mjs",
        "model/model.onnx",
        "secret.txt",
        "model/inner/deep.bin",
        "model/.hidden",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    found = WebServer(tmp_path / "library", tmp_path / "model")
    yield found
    found.close()


def get(address: str) -> tuple[int, bytes, str]:
    try:
        with urllib.request.urlopen(address, timeout=20) as reply:
            return reply.status, reply.read(), reply.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, b"", ""


def test_page_library_and_graph_are_served(server: WebServer) -> None:
    assert get(server.address) == (200, PAGE.read_bytes(), "text/html")
    assert get(f"{server.address}library/ort.mjs") == (200, b"library/ort.mjs", "text/javascript")
    assert get(f"{server.address}model/model.onnx")[:2] == (200, b"model/model.onnx")


@pytest.mark.parametrize(
    "path",
    ["model/../secret.txt", "model/inner/deep.bin", "model/.hidden", "model/", "other/x", "model/gone"],
)
def test_nothing_else_is(server: WebServer, path: str) -> None:
    assert server.file(path) is None
    assert get(server.address + path)[0] == 404


def test_nobody_else_is_served(server: WebServer) -> None:
    assert server.address.startswith("http://127.0.0.1:")
    other = server.address.replace(server.secret, "0" * 32)
    assert [get(other + path)[0] for path in ("", "next", "model/model.onnx")] == [404] * 3


def test_messages_go_both_ways(server: WebServer) -> None:
    server.messages.put(b"question")
    assert get(f"{server.address}next")[:2] == (200, b"question")
    request = urllib.request.Request(f"{server.address}answer", data=b"answer", method="POST")
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert reply.status == 204
    assert server.answers.get(timeout=5) == b"answer"
