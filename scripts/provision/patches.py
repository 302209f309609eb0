"""Putting `patches/` onto the unpacked upstream source.

`patches/llama.cpp/*.patch` (hooks) go onto `vendor/llama.cpp`, `patches/llama-cpp-python/*.patch` onto the
root, both in the order of their names; every other file under `patches/llama.cpp/` is a whole new one and is
copied to the same place there.

Patches must fit exactly: the source is pinned by its checksum, so a hunk that fits only elsewhere or
loosely is a mistake. Each hunk is therefore compared with the source before patch-ng applies them.

Run as `python -m provision.patches SOURCE PATCHES` by the build tools' interpreter, which has patch-ng.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
from pathlib import Path

from provision.failure import ProvisionError, run_main
from provision.upstream import Upstream, read_upstream

_LLAMA_CPP = Path("vendor") / "llama.cpp"
# What editors, patch, git and desktops leave beside a file, besides names that begin with a dot.
_LEFTOVER = re.compile(r".*(~|\.(orig|rej|bak|swp|swo|tmp|pyc))|#.*#|__pycache__")
_VERSION_LINE = re.compile(r'^__version__ = "([^"]*)"$', re.MULTILINE)


def patch_files(patches: Path) -> list[Path]:
    """Every file under `patches/` that decides what is built, sorted.

    That is all but what is for people to read (`*.md`), hidden files and folders, and what editors and patch
    leave behind.
    """
    return sorted(
        path for path in patches.rglob("*") if path.is_file() and _decides(path.relative_to(patches))
    )


def apply_all(source: Path, patches: Path) -> None:
    """Turn the unpacked upstream release into the patched one.

    Args:
        source: the unpacked source distribution.
        patches: the repository's `patches/`.

    Raises:
        ProvisionError: a hunk does not fit, a new file exists upstream, or the version line is not there;
            `source` is then in an undefined state.
    """
    upstream = read_upstream(patches / "upstream.toml")
    for folder, target in (("llama.cpp", source / _LLAMA_CPP), ("llama-cpp-python", source)):
        for path in patch_files(patches / folder):
            if _is_patch(path.relative_to(patches / folder)):
                apply_patch(path, target, upstream)
    copy_new_files(patches / "llama.cpp", source / _LLAMA_CPP)
    set_version(source / "llama_cpp" / "__init__.py", upstream)


def apply_patch(path: Path, root: Path, upstream: Upstream) -> None:
    """Apply one unified diff (paths as `git diff` writes them, one leading component) under `root`.

    Raises:
        ProvisionError: it is no such diff, or one of its hunks does not fit; the message names the hunk.
    """
    import patch_ng  # noqa: PLC0415 - only the build tools' interpreter has it, and only this function needs it

    logging.getLogger("patch_ng").setLevel(logging.CRITICAL)
    series = patch_ng.fromfile(str(path))
    if not series or series.errors:
        raise ProvisionError(
            f"{path.name} is not a unified diff that can be read; make it again with git diff."
        )
    for item in series.items:
        name = item.target.decode()
        target = root / name.removeprefix("b/")
        if b"dev/null" in (item.source + item.target) or item.mode == "rename":
            raise ProvisionError(
                f"{path.name} adds, removes or renames {name}; put a new file beside it as a whole."
            )
        lines = target.read_bytes().splitlines() if target.is_file() else []
        for hunk in item.hunks:
            if not _fits(hunk.text, lines[max(hunk.startsrc - 1, 0) :]):
                raise ProvisionError(_misfit(path, hunk, target.relative_to(root), upstream))
    if not series.apply(strip=0, root=str(root)):
        raise ProvisionError(f"{path.name} could not be applied to {upstream.name} {upstream.version}.")


def copy_new_files(folder: Path, root: Path) -> None:
    """Copy every file of `folder` but its top-level patches to the same place under `root`.

    Raises:
        ProvisionError: upstream has a file of that name.
    """
    for path in patch_files(folder):
        relative = path.relative_to(folder)
        if _is_patch(relative):
            continue
        target = root / relative
        if target.exists():
            raise ProvisionError(
                f"patches/llama.cpp/{relative} exists upstream; change that one with a patch."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def set_version(module: Path, upstream: Upstream) -> None:
    """Give the package its patched version, by rewriting the one line that the wheel's version is read from.

    Raises:
        ProvisionError: the module has not exactly one such line with the upstream version.
    """
    text = module.read_text(encoding="utf-8")
    if _VERSION_LINE.findall(text) != [upstream.version]:
        raise ProvisionError(
            f'{module.name} does not say __version__ = "{upstream.version}" once; see upstream.toml.'
        )
    module.write_text(
        _VERSION_LINE.sub(f'__version__ = "{upstream.patched_version}"', text), encoding="utf-8"
    )


def _decides(relative: Path) -> bool:
    return relative.suffix != ".md" and not any(
        part.startswith(".") or _LEFTOVER.fullmatch(part) for part in relative.parts
    )


def _is_patch(relative: Path) -> bool:
    return len(relative.parts) == 1 and relative.suffix == ".patch"


def _fits(hunk: list[bytes], lines: list[bytes]) -> bool:
    expected = [line[1:].rstrip(b"\r\n") for line in hunk if line[:1] in (b" ", b"-")]
    return lines[: len(expected)] == expected


def _misfit(path: Path, hunk: object, target: Path, upstream: Upstream) -> str:
    numbers = [getattr(hunk, name) for name in ("startsrc", "linessrc", "starttgt", "linestgt")]
    function = (getattr(hunk, "desc", b"") or b"").decode(errors="replace").strip()
    header = "@@ -{},{} +{},{} @@ {}".format(*numbers, function).strip()
    return (
        f"{path.name} does not apply: the hunk {header} of {target} does not fit; "
        f"it was made for {upstream.name} {upstream.version}."
    )


def _main() -> int:
    source, patches = (Path(argument) for argument in sys.argv[1:])
    apply_all(source, patches)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(_main))
