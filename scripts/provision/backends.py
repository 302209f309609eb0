"""The ggml backends a library can be built for: their CMake options, and which one this machine can use."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provision.commands import output_of
from provision.failure import USAGE, ProvisionError

AUTO = "auto"
CMAKE_OPTIONS: dict[str, tuple[str, ...]] = {
    # On macOS upstream turns Metal on by itself; saying OFF makes `cpu` mean the CPU there too.
    "cpu": ("-DGGML_METAL=OFF",),
    "cuda": ("-DGGML_CUDA=ON",),
    "metal": ("-DGGML_METAL=ON",),
    "vulkan": ("-DGGML_VULKAN=ON",),
    "hip": ("-DGGML_HIP=ON",),
}
CHOICES = (AUTO, *CMAKE_OPTIONS)


def cmake_options(backend: str, rpc: bool) -> tuple[str, ...]:
    """CMake's options for a backend of `CMAKE_OPTIONS`, with or without the devices of other machines."""
    return (*CMAKE_OPTIONS[backend], f"-DGGML_RPC={'ON' if rpc else 'OFF'}")


@dataclass(frozen=True)
class Choice:
    """A backend, and the reason for it in words."""

    backend: str
    reason: str


@dataclass(frozen=True)
class Machine:
    """What detection looks at; tests give it a machine that is not there.

    Attributes:
        platform: `sys.platform`.
        find_program: a program's path, or None.
        exists: whether a path exists.
    """

    platform: str
    find_program: Callable[[str], str | None]
    exists: Callable[[str], bool]


def this_machine() -> Machine:
    """The machine set-up runs on."""
    return Machine(sys.platform, find_program, os.path.exists)


def find_program(name: str) -> str | None:
    """A program on the PATH, or where the toolkits of CUDA and ROCm put it."""
    homes = (os.environ.get("CUDA_HOME"), "/usr/local/cuda", os.environ.get("ROCM_PATH"), "/opt/rocm")
    folders = [str(Path(home) / "bin") for home in homes if home]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders))


def choose(requested: str, machine: Machine) -> Choice:
    """The backend to build for.

    `auto` takes a GPU's backend only where both its toolkit and its device are there, else the CPU.

    Raises:
        ProvisionError: there is no backend of that name.
    """
    if requested not in CHOICES:
        raise ProvisionError(f"there is no backend {requested!r}; choose one of {', '.join(CHOICES)}.", USAGE)
    if requested != AUTO:
        return Choice(requested, "as asked for")
    if machine.platform == "darwin":
        return Choice("metal", "this is macOS")
    if (nvcc := machine.find_program("nvcc")) and _has_nvidia_driver(machine):
        return Choice("cuda", f"found {nvcc} and an NVIDIA driver")
    if (hipcc := machine.find_program("hipcc")) and machine.exists("/dev/kfd"):
        return Choice("hip", f"found {hipcc} and an AMD compute device")
    if _has_vulkan(machine):
        return Choice("vulkan", "found glslc, the Vulkan and SPIR-V headers and a graphics device")
    return Choice("cpu", "found no GPU with the toolkit to build for it")


def environment_for(backend: str) -> dict[str, str]:
    """Variables that a backend's build needs on top of its CMake options."""
    variables: dict[str, str] = {}
    if backend == "cuda" and (nvcc := find_program("nvcc")):
        variables["CUDACXX"] = nvcc
    if backend == "hip" and (hipconfig := find_program("hipconfig")):
        # As llama.cpp's build instructions have it: ROCm's own clang compiles the device code.
        compiler, root = output_of([hipconfig, "-l"]), output_of([hipconfig, "-R"])
        if compiler and root:
            variables |= {"HIPCXX": f"{compiler.strip()}/clang", "HIP_PATH": root.strip()}
    return variables


def _has_nvidia_driver(machine: Machine) -> bool:
    return machine.exists("/proc/driver/nvidia/version") or machine.exists("/dev/nvidiactl")


def _has_vulkan(machine: Machine) -> bool:
    roots = [root for root in (os.environ.get("VULKAN_SDK"), "/usr", "/usr/local") if root]
    headers = ("vulkan/vulkan.h", "spirv/unified1/spirv.hpp")
    return (
        machine.find_program("glslc") is not None
        and machine.exists("/dev/dri/renderD128")
        and all(any(machine.exists(f"{root}/include/{header}") for root in roots) for header in headers)
    )
