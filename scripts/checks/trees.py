"""llama.cpp's source, patched and as upstream has it, kept in the cache so that a build of it can go on."""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from provision.cache import cache_dir
from provision.commands import run_logged
from provision.digests import content_digest
from provision.lock import exclusive
from provision.patches import patch_files
from provision.progress import Progress
from provision.tools import Tools, ensure_tools
from provision.upstream import fetch_sdist, read_upstream, unpack

_SCRIPTS = Path(__file__).resolve().parents[1]
_UPSTREAM = "upstream"  # what stands for the patches' digest in an unpatched tree


@dataclass(frozen=True)
class Tree:
    """One llama.cpp in the cache, with the builds of it beside it.

    Attributes:
        folder: holds the source and the builds.
        version: the patched or the upstream version of the package that it came in.
        patches: digest of the patches in it, or `upstream`.
    """

    folder: Path
    version: str
    patches: str

    @property
    def source(self) -> Path:
        """llama.cpp's root."""
        return self.folder / "llama.cpp"

    def build(self, kind: str) -> Path:
        """Where one kind of build is kept."""
        return self.folder / kind

    @property
    def log(self) -> Path:
        """Where the output of what is done here goes."""
        return self.folder / "log.txt"


def checks_dir() -> Path:
    """The folder of everything that the checks keep."""
    return cache_dir() / "checks"


def ensure_tree(patches: Path, *, patched: bool) -> Tree:
    """A tree with the pinned source and, if `patched`, these patches.

    One that is there is brought up to date in place: only files that differ are written, so that a build
    compiles only what changed.

    Args:
        patches: the repository's `patches/`.
        patched: whether to apply them, or keep the source as upstream has it.

    Raises:
        ProvisionError: the source cannot be had, or a patch does not fit; a tree that was there is unchanged.
    """
    upstream = read_upstream(patches / "upstream.toml")
    tree = Tree(
        folder=checks_dir() / ("patched" if patched else "unpatched"),
        version=upstream.patched_version if patched else upstream.version,
        patches=content_digest(patches, patch_files(patches)) if patched else _UPSTREAM,
    )
    with exclusive(tree.folder / "lock-source", "unpacking llama.cpp"):
        tree.log.unlink(missing_ok=True)
        stamp, wanted = tree.folder / "prepared", f"{upstream.sha256} {tree.patches}"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return tree
        backend = cache_dir() / "backend"
        with exclusive(backend / "lock", "building the library"):
            tools = ensure_tools(backend, tree.log)
            archive = fetch_sdist(upstream, backend / "sdist", tools)
        with TemporaryDirectory(prefix=".unpacked-", dir=tree.folder) as temporary:
            fresh = Path(temporary) / "source"
            with Progress(f"Unpacking {upstream.name} {upstream.version}", expected_seconds=5) as progress:
                unpack(archive, fresh, progress.update)
            if patched:
                apply_patches(tools, fresh, patches)
            stamp.unlink(missing_ok=True)
            mirror(fresh / "vendor" / "llama.cpp", tree.source)
        stamp.write_text(wanted, encoding="utf-8")
    return tree


def apply_patches(tools: Tools, source: Path, patches: Path) -> None:
    """Apply the patches to an unpacked source distribution, by the interpreter that can.

    Raises:
        ProvisionError: one does not fit; the log of the tools names the hunk.
    """
    command: list[str | Path] = [tools.python, "-m", "provision.patches", source, patches]
    run_logged(command, tools.log, "Applying the patches", environment={"PYTHONPATH": str(_SCRIPTS)})


def mirror(source: Path, target: Path) -> None:
    """Make `target` hold the files of `source` and no others; files that are the same are not touched."""
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target) not in wanted:
            path.unlink()
    for name in wanted:
        there = target / name
        if there.is_file() and filecmp.cmp(source / name, there, shallow=False):
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, there)
        shutil.copymode(source / name, there)
