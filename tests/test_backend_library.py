"""Which library is loaded, and what its absence of symbols means."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import re
from pathlib import Path

import llama_cpp
import pytest

from ropewalk.backend import library
from ropewalk.backend.host import available_cores, available_memory
from ropewalk.backend.library import LibraryNotPatchedError, library_info
from ropewalk.cli import doctor
from ropewalk.cli.run import run

ROOT = Path(__file__).parent.parent


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
    monkeypatch.setattr("ropewalk.backend.library.capi._lib", Library(build=None))

    with pytest.raises(LibraryNotPatchedError, match=r"^A rope needs the patched .* run \./scripts/setup$"):
        library.require_patched("A rope")


def test_an_older_build_of_the_patch_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ropewalk.backend.library.capi._lib", Library(build=b"ropewalk.1", lacks="llama_context_plan_reserve")
    )

    assert not library.is_patched()
    with pytest.raises(
        LibraryNotPatchedError,
        match=r"^A rope needs a newer build .* \(ropewalk\.1: it has no llama_context_plan_reserve\): "
        r"run \./scripts/setup$",
    ):
        library.require_patched("A rope")


def test_a_build_for_older_plans_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk.backend.library.capi._lib", Library(build=b"ropewalk.2"))
    assert library.is_patched()
    monkeypatch.setattr(library, "SCHEMA", 2)

    assert not library.is_patched()
    with pytest.raises(
        LibraryNotPatchedError, match=r"\(ropewalk\.2: it reads plans up to schema 1, not 2\)"
    ):
        library.require_patched("A rope")


def test_doctor_names_an_older_build(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    old = dataclasses.replace(library_info(), patched=False, build="ropewalk.1")
    monkeypatch.setattr(doctor, "library_info", lambda: old)

    assert run(["doctor"]) == 0
    assert "an older build of the patch (ropewalk.1)" in capfd.readouterr().out
    assert run(["doctor", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["library"]["patched"] is False


class Library:
    """What a library's symbols look like from here; one of another release lacks some."""

    def __init__(self, build: bytes | None, lacks: str = "") -> None:
        header = (ROOT / "patches/llama.cpp/include/llama-context-plan.h").read_text()
        names = set(re.findall(r"\b(llama_(?:context|model)_plan_\w+)\(", header)) - {lacks}
        for name in names if build is not None else ():
            setattr(self, name, Symbol(build if name == "llama_context_plan_build" else 1))


class Symbol:
    """A function as ctypes shows it."""

    restype: object = None

    def __init__(self, result: object) -> None:
        self.result = result

    def __call__(self) -> object:
        return self.result


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
