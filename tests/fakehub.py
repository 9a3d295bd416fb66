"""A small fake Hub on loopback: model folders, ranges, and servers that do not keep to them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_MODEL = re.compile(
    r"/api/models/(?P<id>[\w.-]+/[\w.-]+)(/(?P<what>revision|tree)/(?P<rev>[^/]+))?"
)
_FILE = re.compile(r"/(?P<id>[\w.-]+/[\w.-]+)/resolve/(?P<rev>[^/]+)/(?P<name>.+)")
_CHUNK = 65536
_HOUSEKEEPING = "/api/agent-harnesses"  # asked once a day by huggingface_hub, whatever we do


@dataclass
class HubModel:
    """A model that the Hub holds: a folder, and what the Hub says of it."""

    folder: Path
    commit: str = COMMIT
    card: dict[str, Any] = field(default_factory=dict)
    gated: bool = False
    refused: tuple[int, str] | None = None  # status and error code for its files
    hashes: dict[str, str] = field(default_factory=dict)  # instead of the real ones
    more: tuple[dict[str, Any], ...] = ()  # entries of the listing without a file

    def listing(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            name, size = str(path.relative_to(self.folder)), path.stat().st_size
            entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": self._blob(path)}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": self._hash(name, path), "size": size, "pointerSize": 130}
            entries.append(entry)
        return [*entries, *self.more]

    def _hash(self, name: str, path: Path) -> str:
        if name in self.hashes:
            return self.hashes[name]
        if path.stat().st_size > 10**8:  # a hole; any name will do
            return hashlib.sha256(f"{self.folder}{name}".encode()).hexdigest()
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @staticmethod
    def _blob(path: Path) -> str:
        return hashlib.sha1(path.read_bytes() if path.stat().st_size < 10**8 else b"").hexdigest()


@dataclass
class Served:
    """A request and what it was given."""

    path: str
    range: str | None
    authorization: str | None
    sent: int = 0


@dataclass
class FakeHub:
    """The Hub's state; `answers` maps paths to functions that answer in place of it."""

    url: str
    models: dict[str, HubModel] = field(default_factory=dict)
    served: list[Served] = field(default_factory=list)
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    ignores_ranges: bool = False

    def of(self, ending: str) -> list[Served]:
        """Return the requests for files whose name ends so."""
        return [served for served in self.served if served.path.endswith(ending)]

    def sent(self, ending: str = "") -> int:
        """Return the number of bytes of bodies sent for files whose name ends so."""
        return sum(served.sent for served in self.of(ending))


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.record = Served(path, self.headers.get("Range"), self.headers.get("Authorization"))
        if path == _HOUSEKEEPING:
            self.send_error(404)
            return
        self.hub.served.append(self.record)
        if path in self.hub.answers:
            self.hub.answers[path](self)
            return
        if match := _MODEL.fullmatch(path):
            self._model(match, body)
        elif match := _FILE.fullmatch(path):
            self._file(match, body)
        else:
            self.refuse(404, "RepoNotFound")

    def _model(self, match: re.Match[str], body: bool) -> None:
        model = self.hub.models.get(match["id"])
        if model is None:
            self.refuse(404, "RepoNotFound")
        elif match["rev"] not in (None, "main", model.commit):
            self.refuse(404, "RevisionNotFound")
        elif match["what"] == "tree":
            files = [{"type": "file", "path": e["rfilename"], "size": e.get("size", 0),
                      "oid": "0" * 40} for e in model.listing()]  # fmt: skip
            self.reply(json.dumps(files).encode(), "application/json", body=body)
        else:
            gated = "manual" if model.gated else False
            answer = {"id": match["id"], "sha": model.commit, "siblings": model.listing(),
                      "cardData": model.card, "gated": gated}  # fmt: skip
            self.reply(json.dumps(answer).encode(), "application/json", body=body)

    def _file(self, match: re.Match[str], body: bool) -> None:
        model = self.hub.models.get(match["id"])
        if model is None or match["rev"] != model.commit:
            self.refuse(404, "RepoNotFound")
        elif model.refused is not None:
            self.refuse(*model.refused)
        elif not (model.folder / match["name"]).is_file():
            self.refuse(404, "EntryNotFound")
        else:
            self._content(model, model.folder / match["name"], body)

    def _content(self, model: HubModel, path: Path, body: bool) -> None:
        total = path.stat().st_size
        begin, end, status = 0, total, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if wanted and not self.hub.ignores_ranges:
            begin, end, status = int(wanted[1]), min(int(wanted[2]) + 1, total), 206
            if begin >= total:
                self.refuse(416, "")
                return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{total}")
        self.send_header("Content-Length", str(end - begin))
        self.send_header("ETag", f'"{hashlib.sha256(str(path).encode()).hexdigest()}"')
        self.send_header("X-Repo-Commit", model.commit)
        self.end_headers()
        if not body:
            return
        with path.open("rb") as file:
            file.seek(begin)
            while begin < end:
                chunk = file.read(min(_CHUNK, end - begin))
                try:
                    self.wfile.write(chunk)
                except OSError:  # hung up on
                    self.close_connection = True
                    return
                self.record.sent += len(chunk)
                begin += len(chunk)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def reply(
        self, data: bytes, kind: str, *, status: int = 200, body: bool = True, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body:
            try:
                self.wfile.write(data)
            except OSError:
                self.close_connection = True
            self.record.sent += len(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def fake_hub(**models: HubModel) -> Iterator[FakeHub]:
    """Serve models, named ``acme/NAME``, while inside."""
    hub = FakeHub("", {f"acme/{name}": model for name, model in models.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def talk_to(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Hub's client, which reads its settings once, talk to another Hub."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def write_header_only(path: Path, tensors: dict[str, tuple[str, list[int]]], width: int = 2) -> int:
    """Write a safetensors file whose tensors are a hole; return the length of its header."""
    header, position = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = width
        for n in shape:
            size *= n
        header[name] = {
            "dtype": dtype, "shape": shape, "data_offsets": [position, position + size],
        }  # fmt: skip
        position += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + position)
    return 8 + len(text)
