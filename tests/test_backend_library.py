"""Which library is loaded, and what its absence of symbols means."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import pytest

from ropewalk.backend import library
from ropewalk.backend.host import available_cores, available_memory
from ropewalk.backend.library import LibraryNotPatchedError, library_info


def test_info_describes_the_loaded_library() -> None:
    info = library_info()

    assert Path(info.path).exists()
    assert info.version == llama_cpp.__version__
    # The oracle is the file itself, opened once more.
    has_symbol = hasattr(ctypes.CDLL(info.path), "llama_context_plan_build")
    assert info.patched == has_symbol
    assert bool(info.build) == bool(info.plan_schema) == has_symbol
    assert "CPU" in info.system_info


def test_the_cpu_is_a_device() -> None:
    cpus = [device for device in library_info().devices if device.kind == "cpu"]

    assert len(cpus) == 1
    assert cpus[0].name == "CPU"
    assert cpus[0].memory_total > 2**28


def test_a_stock_build_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_patch", lambda: ("", 0))

    with pytest.raises(LibraryNotPatchedError, match=r"^A rope needs the patched .* run \./scripts/setup$"):
        library.require_patched("A rope")


@pytest.mark.usefixtures("patched_library")
def test_the_patched_build_names_itself() -> None:
    info = library_info()

    assert info.build.startswith("ropewalk.")
    assert info.plan_schema >= 1
    library.require_patched("Nothing")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    library.devices()

    assert capfd.readouterr() == ("", "")


def test_host_numbers_are_sane() -> None:
    assert 1 <= available_cores() <= 4096
    assert 2**28 < available_memory() < 2**50
