"""One file from the hub: streamed into a part file, checked, and named only when it is whole.

huggingface-hub's own downloads begin anew in every process since its release 2; models are large and
connections are not always good, so this goes on from what an earlier run left.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from ropewalk_convert.errors import SourceError
from ropewalk_convert.hub_errors import HTTP_ERROR, HubError, connection_failure
from ropewalk_convert.target import size_text

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before each new try after a connection broke without bringing anything."""

_GGUF = b"GGUF"
_BLOCK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        path: its name there, with its folders.
        size: bytes.
        sha256: of its content, None where the hub does not tell it: for files that lie in git itself.
        git_id: git's name for it, None where the hub does not tell it.
    """

    path: str
    size: int
    sha256: str | None
    git_id: str | None = None


def part_path(target: Path, file: HubFile, commit: str) -> Path:
    """Where the beginning of a file is kept; never the place of another content's beginning."""
    return target.with_name(f".{target.name}.{(file.sha256 or commit)[:16]}.part")


def bytes_there(target: Path, file: HubFile, commit: str) -> int:
    """How many bytes an earlier run has left of a file."""
    part = part_path(target, file, commit)
    return part.stat().st_size if part.exists() else 0


def download_gguf(
    url: str, target: Path, file: HubFile, commit: str, progress: Callable[[int], None]
) -> None:
    """Fetch a GGUF file to `target`, going on from what an earlier run left of it.

    Args:
        url: where to get it.
        target: the name it gets when it is whole; a file of that name is replaced.
        file: what it must be.
        commit: the commit it is fetched at.
        progress: called with the bytes there are; may raise to stop.

    Raises:
        SourceError: it is no GGUF file; nothing of it is kept.
        HubError: it is not what was announced (nothing is kept), or the connection broke too often.
        HfHubHTTPError: the hub refuses it.
        OSError: it cannot be written.
    """
    download_file(url, target, part_path(target, file, commit), file, progress, magic=_GGUF)
    for left_over in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        left_over.unlink(missing_ok=True)  # beginnings of contents that this one replaces


def download_file(
    url: str, target: Path, part: Path, file: HubFile, progress: Callable[[int], None], *, magic: bytes = b""
) -> None:
    """Fetch a file to `target`, going on from what an earlier run left in `part`.

    Args:
        url: where to get it.
        target: the name it gets when it is whole; a file of that name is replaced.
        part: where its beginning is kept, in the same folder; never the place of another content's.
        file: what it must be.
        progress: called with the bytes there are; may raise to stop.
        magic: what it must begin with; where it is given, the file is a GGUF file.

    Raises:
        SourceError: it begins otherwise; nothing of it is kept.
        HubError: it is not what was announced (nothing is kept), or the connection broke too often.
        HfHubHTTPError: the hub refuses it.
        OSError: it cannot be written.
    """
    with _held(part, file) as stream:
        try:
            incoming = _Incoming(stream, file, magic, progress)
            _receive(url, incoming)
            incoming.check_content()
        except BaseException as error:
            if isinstance(error, (SourceError, _UnfitError)) or stream.tell() == 0:
                part.unlink()  # nothing in it to go on from
            raise
        stream.flush()
        os.fsync(stream.fileno())
        part.replace(target)


class _UnfitError(HubError):
    """What arrived is not the file that was announced."""


class _Incoming:
    """A file as it arrives: written, counted, and summed for its checksum."""

    def __init__(
        self, stream: BinaryIO, file: HubFile, magic: bytes, progress: Callable[[int], None]
    ) -> None:
        """Take up what is in `stream` already."""
        self.file = file
        self.done = 0
        self._stream, self._magic, self._progress = stream, magic, progress
        self._sum = hashlib.sha256()
        self._head = b""
        stream.seek(0)
        while block := stream.read(_BLOCK):
            self._take(block)
        if self.done > file.size:
            self.restart()
        progress(self.done)

    def restart(self) -> None:
        """Forget all that has arrived."""
        self._stream.seek(0)
        self._stream.truncate()
        self.done, self._head, self._sum = 0, b"", hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Keep the next bytes."""
        self._stream.write(data)
        self._take(data)
        self._progress(self.done)

    def _take(self, data: bytes) -> None:
        self.done += len(data)
        self._sum.update(data)
        if len(self._head) < len(self._magic):  # at once: gigabytes of something else are not waited for
            self._head = (self._head + data)[: len(self._magic)]
            if not self._magic.startswith(self._head):
                raise SourceError(
                    f"{self.file.path} is not a GGUF file, whatever its name says, and was not kept; "
                    "choose another file"
                )

    def check_content(self) -> None:
        """Compare the checksum with the one that the hub tells."""
        if len(self._head) < len(self._magic):
            raise SourceError(f"{self.file.path} is too short for a GGUF file; choose another file")
        if self.file.sha256 not in (None, self._sum.hexdigest()):
            raise _UnfitError(
                f"{self.file.path} arrived damaged (its checksum is wrong) and was not kept; "
                "run the same command again"
            )


@contextmanager
def _held(part: Path, file: HubFile) -> Iterator[BinaryIO]:
    """The part file, open, and this process's alone."""
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("a+b") as stream:
        busy = HubError(f"{file.path} is being fetched by another run; wait for that to end")
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        if not part.exists() or not os.path.samestat(part.stat(), os.fstat(stream.fileno())):
            raise busy  # that other run has given it its name since it was opened here
        yield stream


def _receive(url: str, incoming: _Incoming) -> None:
    """Ask for what is missing until nothing is."""
    fruitless = 0
    while (before := incoming.done) < incoming.file.size:
        failure: Exception | None = None
        try:
            _stream_rest(url, incoming)
        except HfHubHTTPError:
            raise
        except HTTP_ERROR as error:
            failure = error
        if incoming.done > incoming.file.size:
            raise _wrong_size(incoming, incoming.done)
        if incoming.done == incoming.file.size:
            return
        fruitless = 0 if incoming.done > before else fruitless + 1
        if fruitless > len(PAUSES):
            why = "no more arrives" if failure is None else connection_failure(failure)
            raise HubError(
                f"{incoming.file.path} broke off after {size_text(incoming.done)} of "
                f"{size_text(incoming.file.size)} ({why}); run the same command again, it goes on from there"
            ) from failure
        time.sleep(PAUSES[max(fruitless - 1, 0)])


def _stream_rest(url: str, incoming: _Incoming) -> None:
    headers = {**build_hf_headers(library_name="ropewalk"), "Accept-Encoding": "identity"}
    if incoming.done:
        headers["Range"] = f"bytes={incoming.done}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.is_error:
            response.read()  # the reason, for the error that is raised next
            hf_raise_for_status(response)
        content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if content_range is None:
            if incoming.done:
                incoming.restart()  # this server does not give parts of files
            encoded = response.headers.get("Content-Encoding", "identity") != "identity"
            length = "" if encoded else response.headers.get("Content-Length", "")
            announced = int(length) if length.isdecimal() else incoming.file.size
        else:
            if int(content_range[1]) != incoming.done:
                raise _UnfitError(
                    f"another part of {incoming.file.path} arrived than was asked for, and nothing was kept; "
                    "run the same command again"
                )
            announced = int(content_range[2])
        if announced != incoming.file.size:
            raise _wrong_size(incoming, announced)
        for data in response.iter_bytes():
            incoming.write(data)


def _wrong_size(incoming: _Incoming, size: int) -> _UnfitError:
    return _UnfitError(
        f"{incoming.file.path} should have {incoming.file.size:,} bytes and comes with {size:,}; nothing was "
        "kept; run the same command again, and tell the repository's owner if it stays so"
    )
