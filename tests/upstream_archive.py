"""Parts of llama.cpp's pinned source: vocabularies that the wheel leaves out, and its own converter.

They come from the source distribution that set-up built the library from. Its archive stays in the user's
cache; where it was removed from there, it is downloaded again as set-up does it.
"""

from __future__ import annotations

import functools
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from provision.cache import cache_dir
from provision.digests import file_sha256
from provision.lock import exclusive
from provision.tools import ensure_tools
from provision.upstream import Upstream, fetch_sdist, read_upstream

_UPSTREAM = Path(__file__).parents[1] / "patches" / "upstream.toml"
_LLAMA_CPP = PurePosixPath("vendor", "llama.cpp")
_WANTED = ("convert_hf_to_gguf.py", "conversion", "gguf-py/gguf", "models")


@functools.cache
def upstream_folder() -> Path:
    """A folder with `convert_hf_to_gguf.py`, `conversion/`, `gguf-py/` and `models/` of the pinned llama.cpp.

    It is unpacked once for each pinned version and kept in the cache.

    Raises:
        ProvisionError: the archive is not in the cache and cannot be downloaded.
    """
    upstream = read_upstream(_UPSTREAM)
    folder = cache_dir() / "test-upstream" / upstream.sha256
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        part = Path(made) / "part"
        _unpack(_archive(upstream), part)
        try:
            part.rename(folder)  # whole or not at all
        except OSError:
            if not folder.is_dir():  # another process was quicker
                raise
    return folder


def _archive(upstream: Upstream) -> Path:
    backend = cache_dir() / "backend"
    kept = backend / "sdist" / f"{upstream.sha256}.tar.gz"
    if kept.exists() and file_sha256(kept) == upstream.sha256:
        return kept
    with exclusive(backend / "lock", "building the library"):
        return fetch_sdist(upstream, backend / "sdist", ensure_tools(backend, backend / "install.log"))


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isreg() or not path.is_relative_to(_LLAMA_CPP) or ".." in path.parts:
                continue
            inner = path.relative_to(_LLAMA_CPP)
            content = tar.extractfile(member)
            if content is None or not any(inner.is_relative_to(wanted) for wanted in _WANTED):
                continue
            (target / inner).parent.mkdir(parents=True, exist_ok=True)
            with content, (target / inner).open("wb") as out:
                shutil.copyfileobj(content, out)
