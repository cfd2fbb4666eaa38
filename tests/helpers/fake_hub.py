"""A fake model hub on 127.0.0.1 with the part of the protocol that tests need."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

RESOLVE = re.compile(r"/(?P<repository>.+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?]+)")
COMMIT = "0" * 40


@contextmanager
def serve_hub(folder: Path) -> Iterator[str]:
    """Serve `folder` as a hub and yield its address, for `HF_ENDPOINT`.

    `folder/REPO_ID/FILE` holds models' files, `folder/datasets/REPO_ID/FILE` datasets'. Any revision is served; a
    branch name resolves to `COMMIT`. A missing file is a 404 with the hub's own error code.
    """
    handler = type("Handler", (_Handler,), {"folder": folder})
    with _listening(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url:
        yield url


@contextmanager
def silent_hub() -> Iterator[str]:
    """Yield the address of a hub that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def _listening(server: ThreadingHTTPServer) -> Iterator[str]:
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        asked = RESOLVE.fullmatch(self.path)
        if self.path == "/":
            return self._respond(200, b"")
        if asked is None:
            return self._respond(404, b"")
        repository = self.folder / asked["repository"]
        if not repository.is_dir():
            return self._respond(404, b"", {"X-Error-Code": "RepoNotFound"})
        commit = asked["revision"] if re.fullmatch("[0-9a-f]{40}", asked["revision"]) else COMMIT
        file = repository / asked["file"]
        if not file.is_file():
            return self._respond(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        body = file.read_bytes()
        return self._respond(200, body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit})

    def _respond(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""
