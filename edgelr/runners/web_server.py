"""What the browser talks to: a page, the library, the graph, and messages in both directions.

On this machine's own address only, under a name that is drawn each time. Who may read the command lines of
others' processes can see it while the browser runs.
"""

from __future__ import annotations

import queue
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).with_name("web_page.html")
_POLL_SECONDS = 10.0
_TYPES = {
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".html": "text/html",
}


class WebServer:
    """Serves one page.

    Args:
        library: Folder of onnxruntime-web's files.
        model: Folder of the graph and its weights.
    """

    def __init__(self, library: Path, model: Path) -> None:
        self.messages: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.folders = {"library": library, "model": model}
        self.secret = secrets.token_hex(16)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self._server.server_port}/{self.secret}/"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def file(self, path: str) -> Path | None:
        """The file of a path below the page's; None where there is none."""
        if path == "":
            return PAGE
        folder, _, name = path.partition("/")
        found = self.folders.get(folder)
        # A single name: nothing of these folders is in a folder of its own.
        if found is None or not name or "/" in name or name.startswith("."):
            return None
        file = (found / name).resolve()
        return file if file.parent == found.resolve() and file.is_file() else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                prefix, path = f"/{server.secret}/", self.path.partition("?")[0]
                if not path.startswith(prefix):
                    self.reply(404)
                elif path == f"{prefix}next":
                    try:
                        self.reply(200, server.messages.get(timeout=_POLL_SECONDS))
                    except queue.Empty:
                        self.reply(204)
                elif (file := server.file(path.removeprefix(prefix))) is not None:
                    self.reply(200, file.read_bytes(), _TYPES.get(file.suffix, "application/octet-stream"))
                else:
                    self.reply(404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path == f"/{server.secret}/answer":
                    server.answers.put(body)
                self.reply(204)

            def reply(self, code: int, body: bytes = b"", kind: str = "application/octet-stream") -> None:
                self.send_response(code)
                # Without these a page has no memory that threads share.
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
                self.send_header("Content-Type", kind)
                if code != 204:
                    self.send_header("Content-Length", str(len(body)))
                try:
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    self.close_connection = True  # the browser ended while it waited

            def log_message(self, *said: object) -> None:
                """Nothing: the terminal is for what people asked for."""

        return Handler
