"""Which llama.cpp is loaded: its version, whether it is the patched one, and the devices it computes on."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from llama_cpp import llama_cpp as capi

from ropewalk.backend import native_log
from ropewalk.backend.errors import LibraryNotPatchedError
from ropewalk.backend.plan_api import SIGNATURES
from ropewalk_plan.plan import SCHEMA

__all__ = [
    "DeviceInfo",
    "LibraryInfo",
    "LibraryNotPatchedError",
    "device_info",
    "ggml",
    "gpu_devices",
    "library_info",
    "require_patched",
]

CType: TypeAlias = Any  # a ctypes type or function: they have no common one

_DEVICE_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accelerator"}


@dataclass(frozen=True)
class DeviceInfo:
    """A device that ggml computes on.

    Attributes:
        name: ggml's name, e.g. `CUDA0`.
        description: the vendor's name for it.
        kind: `cpu`, `gpu` (own memory), `igpu` (the host's memory) or `accelerator`.
        memory_free: bytes free now; for the CPU, whatever ggml reports (all of it on Linux).
        memory_total: bytes in all.
    """

    name: str
    description: str
    kind: str
    memory_free: int
    memory_total: int


@dataclass(frozen=True)
class LibraryInfo:
    """The loaded library.

    Attributes:
        version: of llama-cpp-python, with its local label.
        path: the shared library's file.
        patched: whether it has all of the context-plan API that this version uses.
        build: the patch's own version (`ropewalk.1`), "" in a stock build. With `patched` false, that of an
            older build, which this version does not use.
        plan_schema: the newest plan schema it reads, 0 in a stock build.
        devices: what ggml computes on.
        system_info: llama.cpp's line of CPU features.
    """

    version: str
    path: str
    patched: bool
    build: str
    plan_schema: int
    devices: tuple[DeviceInfo, ...]
    system_info: str


def library_info() -> LibraryInfo:
    """Describes the library that this process has loaded (and initializes its devices)."""
    import llama_cpp  # noqa: PLC0415  # the package, for its version alone

    initialize()
    build, schema, _ = _patch()
    return LibraryInfo(
        version=str(llama_cpp.__version__),
        path=str(Path(capi._lib._name).resolve()),
        patched=is_patched(),
        build=build,
        plan_schema=schema,
        devices=devices(),
        system_info=capi.llama_print_system_info().decode("utf-8", "replace").strip(),
    )


@cache
def initialize() -> None:
    """Sets the native library up, once a process: logging first, so that nothing is printed."""
    native_log.install()
    capi.llama_backend_init()


def is_patched() -> bool:
    """Whether the library has all of the context-plan API that this version uses."""
    build, schema, missing = _patch()
    return bool(build) and schema >= SCHEMA and not missing


def require_patched(what: str) -> None:
    """Raises an error unless the library is the patched one, as new as this version needs it.

    Args:
        what: the sentence's beginning: what needs it.

    Raises:
        LibraryNotPatchedError: the library is a stock build, or an older build of the patch.
    """
    if is_patched():
        return
    build, schema, missing = _patch()
    if not build:
        raise LibraryNotPatchedError(
            f"{what} needs the patched llama.cpp, and a stock build is loaded: run ./scripts/setup"
        )
    lacks = f"it has no {missing[0]}" if missing else f"it reads plans up to schema {schema}, not {SCHEMA}"
    raise LibraryNotPatchedError(
        f"{what} needs a newer build of the patched llama.cpp than the one loaded ({build}: {lacks}): "
        "run ./scripts/setup"
    )


def devices() -> tuple[DeviceInfo, ...]:
    """The devices ggml has registered."""
    initialize()
    get = ggml("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    return tuple(device_info(get(i)) for i in range(ggml("ggml_backend_dev_count", ctypes.c_size_t)()))


def gpu_devices() -> tuple[DeviceInfo, ...]:
    """The devices that layers are offloaded to."""
    return tuple(device for device in devices() if device.kind in ("gpu", "igpu"))


def ggml(function: str, result: CType, *arguments: CType) -> CType:
    """A function of ggml's backend API by name."""
    for library in (capi._lib, *_ggml_libraries()):
        symbol = getattr(library, function, None)
        if symbol is not None:
            symbol.restype, symbol.argtypes = result, arguments
            return symbol
    raise RuntimeError(f"the native library has no {function}")


def _patch() -> tuple[str, int, tuple[str, ...]]:
    """(build, newest plan schema, functions that are missing); ("", 0, ...) for a stock build."""
    build = getattr(capi._lib, "llama_context_plan_build", None)
    schema = getattr(capi._lib, "llama_context_plan_schema", None)
    missing = tuple(name for name in SIGNATURES if getattr(capi._lib, name, None) is None)
    if build is None or schema is None:
        return "", 0, missing
    build.restype, schema.restype = ctypes.c_char_p, ctypes.c_uint32
    return (build() or b"").decode("utf-8", "replace"), int(schema()), missing


def device_info(handle: int) -> DeviceInfo:
    """What a `ggml_backend_dev_t` says of itself, registered with ggml or of an RPC server."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    ggml("ggml_backend_dev_memory", None, ctypes.c_void_p, size_pointer, size_pointer)(
        handle, ctypes.byref(free), ctypes.byref(total)
    )
    kind = ggml("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)(handle)
    name, description = (
        ggml(function, ctypes.c_char_p, ctypes.c_void_p)(handle)
        for function in ("ggml_backend_dev_name", "ggml_backend_dev_description")
    )
    return DeviceInfo(
        name=(name or b"").decode("utf-8", "replace"),
        description=(description or b"").decode("utf-8", "replace").strip(),
        kind=_DEVICE_KINDS.get(kind, "accelerator"),
        memory_free=free.value,
        memory_total=total.value,
    )


@cache
def _ggml_libraries() -> tuple[ctypes.CDLL, ...]:
    """Libggml and libggml-base, which libllama has loaded already: the same files, so the same instances."""
    folder = Path(capi._lib._name).parent
    found = [path for stem in ("libggml", "libggml-base") for path in sorted(folder.glob(f"{stem}.*"))]
    return tuple(ctypes.CDLL(str(path)) for path in found if path.suffix in (".so", ".dylib", ".dll"))
