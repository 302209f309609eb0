"""The unpatched library, built from the same pinned source in the same way as the patched one."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from provision.backends import AUTO, choose, this_machine
from provision.cache import cache_dir
from provision.failure import ProvisionError
from provision.library import package_folder, read_record
from provision.wheel import ensure_wheel, make_recipe

_LABEL = "stock"
_BUILD_ONLY = "llama-cpp-python"
"""The folder of patches that say what is built, and change nothing of llama.cpp."""


def bare_patches(patches: Path, target: Path) -> None:
    """Makes `target` a `patches/` without any change of llama.cpp: the pin, and what says what is built.

    Args:
        patches: the repository's.
        target: a new folder.
    """
    shutil.copytree(patches / _BUILD_ONLY, target / _BUILD_ONLY)
    pin = (patches / "upstream.toml").read_text(encoding="utf-8").splitlines()
    lines = [f'local_label = "{_LABEL}"' if line.startswith("local_label") else line for line in pin]
    (target / "upstream.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def ensure_stock_library(patches: Path, jobs: int | None = None) -> Path:
    """The folder of the unpatched `libllama`, built now where the cache does not have it.

    It is built for the backend that the installed library was built for, with the options and the compiler
    that a build of that one would have now.

    Args:
        patches: the repository's `patches/`.
        jobs: how many compilers at a time.

    Raises:
        ProvisionError: a step failed.
    """
    record = read_record(package_folder(Path(sys.executable)))
    backend = record["backend"] if record else choose(AUTO, this_machine()).backend
    with TemporaryDirectory(prefix="ropewalk-stock-") as folder:
        bare = Path(folder) / "patches"
        bare_patches(patches, bare)
        recipe = make_recipe(bare, backend)
        kept = cache_dir() / _LABEL / recipe.key
        if not kept.is_dir():
            unpack_libraries(ensure_wheel(recipe, bare, cache_dir() / "backend", jobs), kept)
    return kept


def unpack_libraries(wheel: Path, target: Path) -> None:
    """A wheel's libraries alone, as the folder `target`: whole, or not at all.

    What lies beside it, of older sources, is removed.

    Raises:
        ProvisionError: the wheel has no libllama.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob("[!.]*"):
        shutil.rmtree(old)
    with TemporaryDirectory(prefix=".unpack-", dir=target.parent) as temporary:
        found = Path(temporary) / target.name
        found.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if Path(name).parent == Path("llama_cpp/lib") and Path(name).name.startswith("lib"):
                    (found / Path(name).name).write_bytes(archive.read(name))
        if not any(path.name.startswith("libllama.") for path in found.iterdir()):
            raise ProvisionError(f"{wheel.name} has no libllama in llama_cpp/lib: report this")
        found.rename(target)
