"""What a wheel is keyed on, and that a kept one is reused. Nothing is compiled here."""

from __future__ import annotations

import dataclasses
import itertools
import os
import stat
from pathlib import Path

import pytest

from provision import wheel
from provision.failure import ProvisionError
from provision.library import read_record
from provision.upstream import Upstream
from provision.wheel import RECORD, Recipe, default_jobs, ensure_wheel, make_recipe, share_of_time

UPSTREAM = Upstream("pkg", "1.2", "00", "mine.1")
RECIPE = Recipe(UPSTREAM, "patches", "cpu", ("-DA=ON",), "c++ 12", "linux", "processor")


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """A `patches/` with one patch."""
    patches = tmp_path / "patches"
    (patches / "llama.cpp").mkdir(parents=True)
    (patches / "llama.cpp/1.patch").write_text("one", encoding="utf-8")
    pin = 'name = "pkg"\nversion = "1.2"\nsha256 = "00"\nlocal_label = "mine.1"\n'
    (patches / "upstream.toml").write_text(pin, encoding="utf-8")
    return patches


def test_every_part_of_the_recipe_is_in_the_key() -> None:
    others = [
        dataclasses.replace(RECIPE, upstream=dataclasses.replace(UPSTREAM, version="1.3")),
        dataclasses.replace(RECIPE, upstream=dataclasses.replace(UPSTREAM, local_label="mine.2")),
        dataclasses.replace(RECIPE, upstream=dataclasses.replace(UPSTREAM, sha256="01")),
        dataclasses.replace(RECIPE, patches="other"),
        dataclasses.replace(RECIPE, backend="cuda"),
        dataclasses.replace(RECIPE, options=("-DA=ON", "-DB=ON")),
        dataclasses.replace(RECIPE, compiler="c++ 13"),
        dataclasses.replace(RECIPE, platform="macosx"),
        dataclasses.replace(RECIPE, processor="another"),
    ]
    assert len(others) == len(dataclasses.fields(Recipe)) + 2  # every field once, the upstream three times
    assert len({RECIPE.key, *(other.key for other in others)}) == len(others) + 1
    assert dataclasses.replace(RECIPE).key == RECIPE.key


def test_the_recipe_follows_the_patches(patches: Path) -> None:
    before = make_recipe(patches, "cpu")
    (patches / "README.md").write_text("words", encoding="utf-8")
    assert make_recipe(patches, "cpu") == before
    (patches / "llama.cpp/1.patch").write_text("two", encoding="utf-8")
    assert make_recipe(patches, "cpu").key != before.key


def test_the_persons_own_cmake_options_come_last(patches: Path) -> None:
    recipe = make_recipe(patches, "cuda", {"CMAKE_ARGS": "-DX='a b' -DY=1"})
    assert recipe.options[-2:] == ("-DX=a b", "-DY=1")
    assert "-DGGML_CUDA=ON" in recipe.options


def test_rpc_is_part_of_the_recipe(patches: Path) -> None:
    with_rpc, without = (make_recipe(patches, "cpu", {}, rpc=rpc) for rpc in (True, False))
    assert "-DGGML_RPC=ON" in with_rpc.options
    assert "-DGGML_RPC=OFF" in without.options
    assert with_rpc.key != without.key
    assert make_recipe(patches, "cpu", {}) == with_rpc


def test_without_a_compiler_the_remedy_is_said(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ProvisionError, match=r"apt install g\+\+.*dnf install gcc-c\+\+.*xcode-select --install"
    ):
        make_recipe(patches, "cpu", {})


def test_the_named_compiler_is_the_one_in_the_recipe(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "my-cxx"
    compiler.write_text("#!/bin/sh\necho my compiler 7\necho more\n", encoding="utf-8")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    assert make_recipe(patches, "cpu", {"CXX": str(compiler)}).compiler == f"{compiler}: my compiler 7"


def test_a_kept_wheel_is_reused_without_any_tool(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_tools(*_: object) -> None:
        raise AssertionError("a build was begun")

    monkeypatch.setattr(wheel, "ensure_tools", no_tools)
    kept = tmp_path / "cache/wheels" / RECIPE.key / "pkg-1.2+mine.1-py3-none-any.whl"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert ensure_wheel(RECIPE, patches, tmp_path / "cache") == kept
    other = dataclasses.replace(RECIPE, patches="changed")
    with pytest.raises(AssertionError, match="begun"):
        ensure_wheel(other, patches, tmp_path / "cache")


def test_the_wheels_used_last_are_kept(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    for age, name in enumerate(["d", "c", "b", "a", RECIPE.key]):  # the one in use has the longest past
        (wheels / name).mkdir(parents=True)
        (wheels / name / "pkg.whl").touch()
        os.utime(wheels / name, (1000 - age, 1000 - age))
    assert ensure_wheel(RECIPE, patches, tmp_path) == wheels / RECIPE.key / "pkg.whl"
    assert len(list(wheels.iterdir())) == 5  # nothing was built

    def build(_: Recipe, build: Path, kept: Path, *__: object, **___: object) -> None:
        build.mkdir()
        kept.mkdir()
        (kept / "new.whl").touch()

    monkeypatch.setattr(wheel, "ensure_tools", lambda *_: None)
    monkeypatch.setattr(wheel, "_prepare_source", lambda *_, **__: None)
    monkeypatch.setattr(wheel, "_build", build)
    other = dataclasses.replace(RECIPE, patches="changed")
    assert ensure_wheel(other, patches, tmp_path) == wheels / other.key / "new.whl"
    assert {path.name for path in wheels.iterdir()} == {other.key, RECIPE.key, "d"}


def test_the_record_tells_a_patched_package_from_a_stock_one(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    (tmp_path / RECORD).write_text("[]", encoding="utf-8")
    assert read_record(tmp_path) is None
    (tmp_path / RECORD).write_text('{"key": "k"}', encoding="utf-8")
    assert read_record(tmp_path) == {"key": "k"}


def test_the_time_share_rises_from_nothing_to_all() -> None:
    shares = [share_of_time(step / 50) for step in range(51)]
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert all(later > earlier for earlier, later in itertools.pairwise(shares))


def test_there_is_always_one_job() -> None:
    assert default_jobs() >= 1
