"""A local server that speaks the hub's protocol as far as it is used: listings, files, ranges, redirects and refusals.

Large files are redirected to another host, as the hub's are, where no token may arrive.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

BLOCK = 16_384
COMMIT = "c0ffee" + "0" * 34


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """Repositories, and what goes wrong with them. ``requests`` came in; ``sent`` are bytes, by file."""

    url: str = ""
    cdn: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commit: str = COMMIT
    """What ``main`` is."""
    requests: list[Asked] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """Of the next connections for a file: the bytes after which each one breaks."""
    busy: int = 0
    """How many of the next requests for a file are answered with 503."""
    busy_to_list: int = 0
    """How many of the next requests for a listing are."""
    wrong: set[str] = field(default_factory=set)
    """Names of files that are served with other bytes."""
    pause: dict[str, str] = field(default_factory=dict)
    """The header by which every request is answered that there were too many of them."""
    portal: bool = False
    """Whether somebody between answers every request with a page of their own."""
    expired: set[str] = field(default_factory=set)
    """Tokens with which nothing is answered any more."""
    private: dict[str, str] = field(default_factory=dict)
    """Repositories that are there for one token only."""
    gated: dict[str, str] = field(default_factory=dict)
    """Repositories whose files are there for one token only."""
    hold_after: int | None = None
    """Bytes of a large file after which it is waited for ``go``."""
    go: threading.Event = field(default_factory=threading.Event)

    def publish(self, name: str, folder: Path, *, only: str = "*", prefix: str = "") -> None:
        """Put what lies in a folder into a repository."""
        files = self.repositories.setdefault(name, {})
        for path in folder.rglob(only):
            if path.is_file():
                files[prefix + path.relative_to(folder).as_posix()] = path.read_bytes()

    def files_asked(self) -> list[str]:
        """Names of the files whose contents were asked for, in order."""
        found = (re.fullmatch(r"/[^/]+/[^/]+/resolve/[^/]+/(.+)", asked.path) for asked in self.requests)
        return [match[1] for match in found if match]


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.requests.append(Asked(path, self.headers.get("Range"), token))
        if self.hub.portal:
            self._send_body("text/html", b"<!DOCTYPE html><title>Log in</title>")
        elif token in self.hub.expired:
            self._refuse(401, message="Invalid credentials in Authorization header")
        elif self.hub.pause:
            self._refuse(429, **self.hub.pause)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._list(match[1], match[2] or "main", token)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3], token)
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._send_file(match[1], match[2])
        else:
            self._refuse(404)

    do_HEAD = do_GET  # noqa: N815

    def _allowed(self, name: str, revision: str, token: str | None) -> bool:
        if name not in self.hub.repositories or self.hub.private.get(name, token) != token:
            self._refuse(404 if token else 401, "RepoNotFound")
        elif revision not in ("main", self.hub.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def _list(self, name: str, revision: str, token: str | None) -> None:
        if not self._allowed(name, revision, token):
            return
        if self.hub.busy_to_list > 0:
            self.hub.busy_to_list -= 1
            self._refuse(503)
            return
        siblings = [_sibling(path, contents) for path, contents in self.hub.repositories[name].items()]
        self._send_json({"id": name, "sha": self.hub.commit, "siblings": siblings})

    def _resolve(self, name: str, revision: str, path: str, token: str | None) -> None:
        if not self._allowed(name, revision, token):
            return
        if self.hub.gated.get(name, token) != token:
            self._refuse(403 if token else 401, "GatedRepo")
            return
        contents = self.hub.repositories[name].get(path)
        if self.hub.busy > 0:
            self.hub.busy -= 1
            self._refuse(503)
        elif contents is None:
            self._refuse(404, "EntryNotFound")
        elif path.endswith(".safetensors"):
            self.send_response(302)
            self.send_header("Location", f"{self.hub.cdn}/cdn/{name}/{path}")
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(contents).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(contents)))
            self._end_headers_of_nothing()
        else:
            self._send_file(name, path)

    def _send_file(self, name: str, path: str) -> None:
        contents = self.hub.repositories[name][path]
        if path in self.hub.wrong:
            contents = bytes([contents[0] ^ 1]) + contents[1:]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(contents) - 1}/{len(contents)}")
        self.send_header("Content-Length", str(len(contents) - start))
        self.send_header("ETag", f'"{_git_hash(contents)}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.end_headers()
        if self.command == "GET":
            self._send_slowly(path, contents, start)

    def _send_slowly(self, path: str, contents: bytes, start: int) -> None:
        large = path.endswith(".safetensors")
        cuts = self.hub.cuts.get(path)
        end = start + cuts.pop(0) if cuts else len(contents)
        for at in range(start, len(contents), BLOCK):
            if at >= end:
                self.close_connection = True
                return
            if large and self.hub.hold_after is not None and at >= self.hub.hold_after:
                self.hub.go.wait(60)
            block = contents[at : at + BLOCK]
            try:
                self.wfile.write(block)
            except OSError:  # whoever asked is gone
                self.close_connection = True
                return
            self.hub.sent[path] = self.hub.sent.get(path, 0) + len(block)

    def _send_json(self, value: Any) -> None:
        self._send_body("application/json", json.dumps(value).encode())

    def _send_body(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str = "", *, message: str = "no", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"X-Error-Code": code, "X-Error-Message": message, **headers}.items():
            self.send_header(name, value)
        self._end_headers_of_nothing()

    def _end_headers_of_nothing(self) -> None:
        self.send_header("Content-Length", "0")
        self.end_headers()


def _sibling(path: str, contents: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": path, "size": len(contents), "blobId": _git_hash(contents)}
    if path.endswith(".safetensors"):
        found["lfs"] = {"sha256": hashlib.sha256(contents).hexdigest(), "size": len(contents), "pointerSize": 130}
    return found


def _git_hash(contents: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()


@contextmanager
def open_hub() -> Iterator[Hub]:
    """A hub on a port of its own."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_Answer,), {"hub": hub}))
    server.daemon_threads = True
    hub.url, hub.cdn = f"http://127.0.0.1:{server.server_port}", f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go.set()
        server.shutdown()
        server.server_close()


def use(monkeypatch: pytest.MonkeyPatch, *, url: str, home: Path) -> None:
    """Have this process and its children ask the hub at ``url``, and keep what it has in ``home``."""
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HOME", str(home))
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", url)  # read when huggingface_hub is imported, here long ago
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that everything here asks, with an empty cache."""
    with open_hub() as hub:
        use(monkeypatch, url=hub.url, home=tmp_path / "home")
        yield hub
