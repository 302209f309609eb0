"""A small hub on this machine: as much of the real one's HTTP as huggingface-hub needs to read models.

Like the real one it answers for an LFS file with a redirect to storage of another origin, which gets no
token.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_somebody_with_access"


@dataclass
class StandInRepo:
    """A repository as it is told and as it is.

    Attributes:
        files: names and contents.
        also: commits of earlier days, which are still known.
        checksums: what it tells instead of checksums; empty: what they are.
        in_git: names of files that lie in git itself, as small texts do; the others are LFS files.
        commit: what its main branch, and its tag v1, are at.
        access: who may read it.
        told: contents by which size and checksum are told, where these are to be wrong.
        plain_git: whether its files are no LFS files, whose checksums are not told.
    """

    files: Mapping[str, bytes]
    commit: str = COMMIT
    access: Literal["public", "gated", "private"] = "public"
    told: Mapping[str, bytes] = field(default_factory=dict)
    plain_git: bool = False
    in_git: Container[str] = ()
    also: Container[str] = ()
    checksums: str = ""

    def is_in_git(self, name: str) -> bool:
        """Whether a file is no LFS file."""
        return self.plain_git or name in self.in_git

    def etag(self, name: str) -> str:
        """What a file's content is called by: git's name for it, or its checksum."""
        content = self.files[name]
        return git_id(content) if self.is_in_git(name) else hashlib.sha256(content).hexdigest()


def git_id(content: bytes) -> str:
    """What git calls a content, as `git hash-object` prints it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    range: str | None
    token: str | None


class HubStandIn:
    """The state of the stand-in, which tests set and read.

    Attributes:
        endpoint: its address.
        repos: its repositories.
        asked: the requests that came in, in order.
        cuts: for each coming answer with a file's content, after how many bytes it breaks off; None: not.
        seconds_per_block: pause after each 1,000 bytes of content.
        ignores_ranges: whether it sends files from the beginning, whatever part was asked for.
        refusals: for each coming request, a status and headers to answer with; None: as usual.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.storage = ""
        self.repos: dict[str, StandInRepo] = {}
        self.asked: list[Asked] = []
        self.cuts: list[int | None] = []
        self.seconds_per_block = 0.0
        self.ignores_ranges = False
        self.refusals: list[tuple[int, Mapping[str, str]] | None] = []

    @property
    def ranges(self) -> list[str | None]:
        """The ranges that contents were asked for with, in order."""
        return [asked.range for asked in self.asked if asked.path.startswith("/storage/")]


@contextmanager
def running_hub() -> Iterator[HubStandIn]:
    """A stand-in that answers until the block ends."""
    hub = HubStandIn()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.daemon_threads = True
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join(timeout=10)


def point_at(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Let huggingface-hub, here and in processes started from here, ask the stand-in, without a token."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    close_session()  # which would go on with the proxies of its first day


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which would cost each answer the 40 ms of a delayed acknowledgement
    hub: HubStandIn

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' stderr clean."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.asked.append(Asked(self.command, path, self.headers.get("Range"), token))
        refusal = self.hub.refusals.pop(0) if self.hub.refusals else None
        if refusal is not None:
            self._send(refusal[0], refusal[1])
            return
        parts = path.strip("/").split("/")
        if parts[0] == "storage":
            self._send_content(self.hub.repos["/".join(parts[1:3])].files["/".join(parts[3:])], {})
            return
        about_repo = parts[:2] == ["api", "models"]
        if about_repo:
            parts = parts[2:]
        repo = self.hub.repos.get("/".join(parts[:2]))
        revision = parts[3] if len(parts) > 3 else "main"
        if repo is None or (repo.access == "private" and token != TOKEN):
            status = 401 if token is None else 404
            self._send(status, {} if token is None else {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", "v1", repo.commit) and revision not in repo.also:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        elif about_repo and parts[2:3] == ["tree"]:
            self._send_tree(repo)
        elif about_repo:
            self._send_info("/".join(parts[:2]), repo)
        elif repo.access == "gated" and token != TOKEN:
            self._send(401 if token is None else 403, {"X-Error-Code": "GatedRepo"})
        elif (name := "/".join(parts[4:])) not in repo.files:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
        else:
            about = {"X-Repo-Commit": repo.commit, "ETag": f'"{repo.etag(name)}"'}
            if repo.is_in_git(name):
                self._send_content(repo.files[name], about)
                return
            about["X-Linked-ETag"] = about["ETag"]
            about["X-Linked-Size"] = str(len(repo.files[name]))
            about["Location"] = self.hub.storage + quote(f"/storage/{'/'.join(parts[:2])}/{name}")
            self._send(302, about)

    def _send_info(self, name: str, repo: StandInRepo) -> None:
        siblings = []
        for file, content in {**repo.files, **repo.told}.items():
            sibling = {"rfilename": file, "size": len(content), "blobId": repo.checksums or git_id(content)}
            if not repo.is_in_git(file):
                sha256 = repo.checksums or hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        info = {"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _send_tree(self, repo: StandInRepo) -> None:
        tree = []
        for file, content in repo.files.items():
            entry = {"type": "file", "path": file, "size": len(content), "oid": git_id(content)}
            if not repo.is_in_git(file):
                entry["lfs"] = {"oid": repo.etag(file), "size": len(content), "pointerSize": 134}
            tree.append(entry)
        self._send(200, {"Content-Type": "application/json"}, json.dumps(tree).encode())

    def _send_content(self, content: bytes, about: Mapping[str, str]) -> None:
        wanted = self.headers.get("Range")
        start = 0
        headers = {"Content-Type": "application/octet-stream", **about}
        if wanted is not None and not self.hub.ignores_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.hub.cuts.pop(0) if self.hub.cuts and self.command == "GET" else None
        body = content[start:]
        self._send(206 if start else 200, headers, body, cut)

    def _send(
        self, status: int, headers: Mapping[str, str], body: bytes = b"", cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body if cut is None else body[:cut]
        try:
            for i in range(0, len(sent), 1000):
                self.wfile.write(sent[i : i + 1000])
                if self.hub.seconds_per_block:
                    self.wfile.flush()
                    time.sleep(self.hub.seconds_per_block)
        except OSError:  # whoever asked has gone
            self.close_connection = True
        if cut is not None:
            self.close_connection = True
