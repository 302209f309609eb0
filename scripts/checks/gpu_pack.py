"""What `scripts/gpu_check` needs, in one small archive, for a machine with a GPU and without a network."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from checks.trees import Tree
from provision.failure import ProvisionError

NAME = "ropewalk-gpu-check"
"""The archive's one folder."""

_SOURCES = "sources"
_DESCRIBED = "trees.json"
_OF_LLAMA_CPP = ("CMakeLists.txt", "LICENSE", "cmake", "ggml", "include", "src", "vendor")
_OF_THE_PROJECT = ("app", "converters", "scripts", "tests", "patches/upstream.toml", "docs/gpu.md", "LICENSE")
PACKAGES = ("llama_cpp", "gguf", "jinja2", "markupsafe", "yaml", "diskcache", "typing_extensions")
"""What is imported besides numpy, which has to be there; all of it works without its compiled parts."""


def write_pack(target: Path, root: Path, patched: Tree, unpatched: Tree) -> int:
    """Write the archive (.tar.xz).

    Args:
        target: the file.
        root: this checkout's.
        patched: llama.cpp with the patches.
        unpatched: as upstream has it.

    Returns:
        Its size in bytes.

    Raises:
        ProvisionError: a package that has to go with it is not installed.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        # With preset 9 the dictionary spans a whole tree, so that the second costs next to nothing.
        with tarfile.open(temporary, "w:xz", preset=9) as tar:
            for path, name in sorted(_members(root, patched, unpatched), key=lambda member: member[1]):
                tar.add(path, f"{NAME}/{name}", recursive=False)
            described = temporary.with_suffix(".json")
            trees = {tree.folder.name: [tree.version, tree.patches] for tree in (patched, unpatched)}
            described.write_text(json.dumps(trees), encoding="utf-8")
            tar.add(described, f"{NAME}/{_SOURCES}/{_DESCRIBED}")
            described.unlink()
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target.stat().st_size


def packed_trees(root: Path) -> tuple[Tree, Tree] | None:
    """The patched and the unpatched tree of an unpacked archive; None where `root` is a checkout."""
    described = root / _SOURCES / _DESCRIBED
    if not described.exists():
        return None
    trees = json.loads(described.read_text(encoding="utf-8"))
    patched, unpatched = (Tree(root / _SOURCES / name, *trees[name]) for name in ("patched", "unpatched"))
    return patched, unpatched


def _members(root: Path, patched: Tree, unpatched: Tree) -> Iterator[tuple[Path, str]]:
    """(file, name in the archive's folder) of everything."""
    for name in _OF_THE_PROJECT:
        yield from _files(root / name, PurePosixPath(name))
    for tree in (patched, unpatched):
        for name in _OF_LLAMA_CPP:
            yield from _files(
                tree.source / name, PurePosixPath(_SOURCES, tree.folder.name, "llama.cpp", name)
            )
    for package in PACKAGES:
        yield from _package_files(package)


def _package_files(package: str) -> Iterator[tuple[Path, str]]:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ProvisionError(f"{package} is not installed; run ./scripts/setup and pack again.")
    origin = Path(found.origin)
    place = origin.parent if found.submodule_search_locations else origin
    for path, name in _files(place, PurePosixPath("python", place.name)):
        if path.suffix == ".py":
            yield path, name


def _files(path: Path, name: PurePosixPath) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        yield path, str(name)
        return
    for found in path.rglob("*"):
        if found.is_file() and "__pycache__" not in found.parts:
            yield found, str(name / found.relative_to(path).as_posix())
