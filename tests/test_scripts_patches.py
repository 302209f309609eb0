"""Applying `patches/` to an upstream tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provision.failure import ProvisionError
from provision.patches import apply_all, patch_files

ROOT = Path(__file__).resolve().parents[1]
PIN = 'name = "pkg"\nversion = "1.2"\nsha256 = "00"\nlocal_label = "mine.1"\n'
LINES = [f"line {number}\n" for number in range(1, 31)]
TWO_HUNKS = """\
--- a/src/a.cpp
+++ b/src/a.cpp
@@ -2,3 +2,4 @@ line 1
 line 2
 line 3
+added
 line 4
@@ -20,3 +21,3 @@ void function()
 line 20
-line 21
+changed
 line 22
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An unpacked upstream release, in small."""
    source = tmp_path / "source"
    (source / "vendor/llama.cpp/src").mkdir(parents=True)
    (source / "vendor/llama.cpp/src/a.cpp").write_text("".join(LINES), encoding="utf-8")
    (source / "llama_cpp").mkdir()
    (source / "llama_cpp/__init__.py").write_text(
        'from x import *\n\n__version__ = "1.2"\n', encoding="utf-8"
    )
    return source


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """A `patches/` with no patch in it."""
    patches = tmp_path / "patches"
    (patches / "llama.cpp").mkdir(parents=True)
    (patches / "llama-cpp-python").mkdir()
    (patches / "upstream.toml").write_text(PIN, encoding="utf-8")
    return patches


def test_without_patches_only_the_version_changes(source: Path, patches: Path) -> None:
    before = (source / "vendor/llama.cpp/src/a.cpp").read_bytes()
    apply_all(source, patches)
    assert (source / "vendor/llama.cpp/src/a.cpp").read_bytes() == before
    assert '\n__version__ = "1.2+mine.1"\n' in (source / "llama_cpp/__init__.py").read_text(encoding="utf-8")


def test_hooks_and_whole_files_are_put_in_place(source: Path, patches: Path) -> None:
    (patches / "llama.cpp/01-first.patch").write_text(TWO_HUNKS, encoding="utf-8")
    (patches / "llama.cpp/src").mkdir()
    (patches / "llama.cpp/src/new.cpp").write_text("new", encoding="utf-8")
    (patches / "llama.cpp/README.md").write_text("for people", encoding="utf-8")
    apply_all(source, patches)
    expected = [*LINES[:3], "added\n", *LINES[3:20], "changed\n", *LINES[21:]]
    assert (source / "vendor/llama.cpp/src/a.cpp").read_text(encoding="utf-8") == "".join(expected)
    assert (source / "vendor/llama.cpp/src/new.cpp").read_text(encoding="utf-8") == "new"
    assert not (source / "vendor/llama.cpp/README.md").exists()


def test_patches_are_applied_in_the_order_of_their_names(source: Path, patches: Path) -> None:
    second = "--- a/src/a.cpp\n+++ b/src/a.cpp\n@@ -4,2 +4,2 @@\n-added\n+added by the first\n line 4\n"
    (patches / "llama.cpp/02-second.patch").write_text(second, encoding="utf-8")
    (patches / "llama.cpp/01-first.patch").write_text(TWO_HUNKS, encoding="utf-8")
    apply_all(source, patches)
    assert "added by the first\n" in (source / "vendor/llama.cpp/src/a.cpp").read_text(encoding="utf-8")


def test_patches_to_the_bindings_apply_at_the_root(source: Path, patches: Path) -> None:
    (source / "CMakeLists.txt").write_text("old\n", encoding="utf-8")
    patch = "--- a/CMakeLists.txt\n+++ b/CMakeLists.txt\n@@ -1 +1 @@\n-old\n+new\n"
    (patches / "llama-cpp-python/1.patch").write_text(patch, encoding="utf-8")
    apply_all(source, patches)
    assert (source / "CMakeLists.txt").read_text(encoding="utf-8") == "new\n"


def test_a_hunk_that_does_not_fit_is_named(source: Path, patches: Path) -> None:
    path = source / "vendor/llama.cpp/src/a.cpp"
    path.write_text("".join(LINES).replace("line 21", "line twenty-one"), encoding="utf-8")
    (patches / "llama.cpp/01-first.patch").write_text(TWO_HUNKS, encoding="utf-8")
    with pytest.raises(ProvisionError) as failure:
        apply_all(source, patches)
    message = str(failure.value)
    assert "01-first.patch" in message
    assert "@@ -20,3 +21,3 @@ void function()" in message
    assert "src/a.cpp" in message
    assert "pkg 1.2" in message
    assert "added" not in path.read_text(encoding="utf-8")  # nor was the hunk that fits applied


def test_a_hunk_that_fits_elsewhere_only_does_not_fit(source: Path, patches: Path) -> None:
    (source / "vendor/llama.cpp/src/a.cpp").write_text("\n" + "".join(LINES), encoding="utf-8")
    (patches / "llama.cpp/01-first.patch").write_text(TWO_HUNKS, encoding="utf-8")
    with pytest.raises(ProvisionError, match="@@ -2,3 "):
        apply_all(source, patches)


def test_a_patch_for_a_missing_file_is_refused(source: Path, patches: Path) -> None:
    (patches / "llama.cpp/1.patch").write_text(TWO_HUNKS.replace("a.cpp", "gone.cpp"), encoding="utf-8")
    with pytest.raises(ProvisionError, match=r"hunk @@ -2,3 .*src/gone\.cpp"):
        apply_all(source, patches)


def test_a_patch_that_adds_a_file_is_refused(source: Path, patches: Path) -> None:
    patch = "--- /dev/null\n+++ b/src/new.cpp\n@@ -0,0 +1 @@\n+new\n"
    (patches / "llama.cpp/1.patch").write_text(patch, encoding="utf-8")
    with pytest.raises(ProvisionError, match="as a whole"):
        apply_all(source, patches)


def test_something_that_is_no_diff_is_refused(source: Path, patches: Path) -> None:
    (patches / "llama.cpp/1.patch").write_text("hello\n", encoding="utf-8")
    with pytest.raises(ProvisionError, match=r"1\.patch is not a unified diff"):
        apply_all(source, patches)


def test_a_whole_file_that_upstream_has_too_is_refused(source: Path, patches: Path) -> None:
    (patches / "llama.cpp/src").mkdir()
    (patches / "llama.cpp/src/a.cpp").write_text("mine", encoding="utf-8")
    with pytest.raises(ProvisionError, match=r"src/a\.cpp exists upstream"):
        apply_all(source, patches)


def test_another_upstream_version_is_refused(source: Path, patches: Path) -> None:
    (source / "llama_cpp/__init__.py").write_text('__version__ = "1.3"\n', encoding="utf-8")
    with pytest.raises(ProvisionError, match=r'does not say __version__ = "1\.2"'):
        apply_all(source, patches)


def test_the_command_ends_in_the_sentence(source: Path, patches: Path) -> None:
    (patches / "llama.cpp/1.patch").write_text("hello\n", encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-m", "provision.patches", source, patches],
        env={"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 1
    assert finished.stderr == "1.patch is not a unified diff that can be read; make it again with git diff.\n"


def test_what_people_read_decides_nothing(patches: Path) -> None:
    (patches / "README.md").write_text("words", encoding="utf-8")
    (patches / "llama.cpp/1.patch").write_text("", encoding="utf-8")
    assert {path.name for path in patch_files(patches)} == {"upstream.toml", "1.patch"}


@pytest.mark.parametrize(
    "name",
    [
        *(".new.cpp.swp", "new.cpp.orig", "new.cpp.rej", "new.cpp~", "new.cpp.bak", "#new.cpp#", ".DS_Store"),
        *("._01-first.patch", ".hidden/new.cpp", "__pycache__/new.cpython-311.pyc"),
    ],
)
def test_what_programs_leave_behind_decides_nothing(source: Path, patches: Path, name: str) -> None:
    (patches / "llama.cpp/src").mkdir()
    (patches / "llama.cpp/src/new.cpp").write_text("new", encoding="utf-8")
    before = patch_files(patches)
    for folder in ("llama.cpp", "llama.cpp/src"):
        path = patches / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("left behind", encoding="utf-8")
    assert patch_files(patches) == before
    apply_all(source, patches)
    files = [path.name for path in (source / "vendor/llama.cpp").rglob("*") if path.is_file()]
    assert sorted(files) == ["a.cpp", "new.cpp"]
