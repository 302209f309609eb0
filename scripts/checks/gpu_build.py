"""The patched and the unpatched library for a GPU, with ggml compiled once.

A GPU's kernels take most of the time that a build takes, and the patch changes none: so both sources go
through one build, one after the other, and of each its libllama is kept.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from checks.builds import LIBRARY_ONLY, Kind, configure, library_folder
from checks.gpu import Libraries
from checks.trees import Tree, mirror
from provision.backends import CMAKE_OPTIONS


def build_both(
    patched: Tree, unpatched: Tree, backend: str, tools: Path | None, jobs: int | None
) -> Libraries:
    """Both libraries, each in a folder as LLAMA_CPP_LIB_PATH takes it.

    Args:
        patched: llama.cpp with the patches.
        unpatched: as upstream has it.
        backend: one of `provision.backends.CMAKE_OPTIONS`.
        tools: see `builds.configure`.
        jobs: compilers at a time.

    Raises:
        ProvisionError: a step fails.
    """
    kind = Kind(f"library-{backend}", (*LIBRARY_ONLY, *CMAKE_OPTIONS[backend]), backend)
    tree = Tree(patched.folder.parent / "both", patched.version, patched.patches)
    tree.folder.mkdir(exist_ok=True)
    kept = {}
    for name, source in (("unpatched", unpatched), ("patched", patched)):
        mirror(source.source, tree.source)
        build = configure(tree, kind, tools)
        kept[name] = build.folder / name
        keep_library(library_folder(build, jobs), kept[name])
    return Libraries(**kept)


def keep_library(built: Path, target: Path) -> None:
    """Copy libllama from a build's folder to `target`, with links to the build's ggml beside it.

    Links, because libllama itself finds ggml in the build's folder: through a copy it would be loaded twice.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in built.glob("lib*"):
        if path.name.startswith("libllama"):
            shutil.copyfile(path, target / path.name)
        else:
            (target / path.name).symlink_to(path)
