"""Which backend `auto` takes on which machine."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from provision.backends import CHOICES, CMAKE_OPTIONS, Machine, choose
from provision.failure import USAGE, ProvisionError

VULKAN_HEADERS = ("/usr/include/vulkan/vulkan.h", "/usr/local/include/spirv/unified1/spirv.hpp")


def _machine(platform: str = "linux", programs: Collection[str] = (), paths: Collection[str] = ()) -> Machine:
    return Machine(
        platform, lambda name: f"/bin/{name}" if name in programs else None, lambda path: path in paths
    )


@pytest.mark.parametrize(
    ("machine", "backend"),
    [
        (_machine(), "cpu"),
        (_machine("darwin", ["nvcc"]), "metal"),
        (_machine(programs=["nvcc"], paths=["/proc/driver/nvidia/version"]), "cuda"),
        (_machine(programs=["nvcc"], paths=["/dev/nvidiactl"]), "cuda"),
        (_machine(programs=["nvcc"]), "cpu"),
        (_machine(paths=["/proc/driver/nvidia/version"]), "cpu"),
        (_machine(programs=["hipcc"], paths=["/dev/kfd"]), "hip"),
        (_machine(programs=["hipcc"]), "cpu"),
        (_machine(programs=["glslc"], paths=["/dev/dri/renderD128", *VULKAN_HEADERS]), "vulkan"),
        (_machine(programs=["glslc"], paths=VULKAN_HEADERS), "cpu"),
        (_machine(programs=["glslc"], paths=["/dev/dri/renderD128", VULKAN_HEADERS[0]]), "cpu"),
        (
            _machine(
                programs=["nvcc", "hipcc", "glslc"],
                paths=["/dev/nvidiactl", "/dev/dri/renderD128", *VULKAN_HEADERS],
            ),
            "cuda",
        ),
    ],
)
def test_auto_takes_what_has_both_toolkit_and_device(machine: Machine, backend: str) -> None:
    choice = choose("auto", machine)
    assert choice.backend == backend
    assert choice.reason


def test_the_reason_names_what_was_found() -> None:
    choice = choose("auto", _machine(programs=["nvcc"], paths=["/dev/nvidiactl"]))
    assert choice.reason == "found /bin/nvcc and an NVIDIA driver"


@pytest.mark.parametrize("backend", sorted(CMAKE_OPTIONS))
def test_what_is_asked_for_is_taken(backend: str) -> None:
    assert choose(backend, _machine()).backend == backend


def test_an_unknown_backend_is_a_usage_error() -> None:
    with pytest.raises(ProvisionError, match=f"choose one of {', '.join(CHOICES)}") as failure:
        choose("abacus", _machine())
    assert failure.value.exit_code == USAGE
