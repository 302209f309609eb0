"""What set-up sees of an environment by its files: missing parts, another place, another Python."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from installed_files import lay
from provision import project
from provision.health import interpreter_of, why_anew
from provision.installed import damaged, forget, has_whole, installed_names
from provision.project import leads_to
from provision.tools import Tools

VERSION = "{}.{}".format(*sys.version_info)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A `site-packages` with two whole distributions."""
    site = tmp_path / "lib" / "site-packages"
    files = {"click/__init__.py": "import os\n", "click/py.typed": "", "../../bin/click": "#!x\n"}
    lay(site, "click", "8.5.1", files)
    lay(site, "Some_Thing.more", "1.0", {"thing,more/a.so": "ELF", "thing,more/b.pyc": "code"})
    return site


def test_whole_distributions_are_whole(site: Path) -> None:
    assert installed_names(site) == {"click", "some-thing-more"}
    assert damaged(site) == {}
    assert has_whole(site, "some-thing-more")
    assert not has_whole(site, "other")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("click/__init__.py", "click"),
        ("click/py.typed", "click"),
        ("../../bin/click", "click"),
        ("click-8.5.1.dist-info/METADATA", "click"),
        ("click-8.5.1.dist-info/RECORD", "click"),
        ("thing,more/a.so", "some-thing-more"),
    ],
)
def test_a_missing_file_is_seen(site: Path, path: str, name: str) -> None:
    (site / path).unlink()
    assert set(damaged(site)) == {name}
    assert not has_whole(site, name)
    forget(site, name)
    assert installed_names(site) == {"click", "some-thing-more"} - {name}
    assert damaged(site) == {}


def test_a_file_that_lost_its_content_is_seen(site: Path) -> None:
    (site / "thing,more/a.so").write_bytes(b"")
    assert set(damaged(site)) == {"some-thing-more"}


def test_compiled_files_may_go_and_sources_may_be_edited(site: Path) -> None:
    (site / "thing,more/b.pyc").unlink()
    (site / "click/__init__.py").write_text("import os, sys\n", encoding="utf-8")
    assert damaged(site) == {}


def test_a_second_version_beside_the_first_is_not_whole(site: Path) -> None:
    lay(site, "click", "7.0", {})
    assert not has_whole(site, "click")
    forget(site, "click")
    assert installed_names(site) == {"some-thing-more"}


def test_the_names_are_those_that_python_finds() -> None:
    site = Path(str(importlib.metadata.distribution("pytest").locate_file("")))
    expected = {
        str(found.metadata["Name"]).lower().replace("_", "-").replace(".", "-")
        for found in importlib.metadata.distributions(path=[str(site)])
    }
    assert installed_names(site) == expected
    assert "pytest" in expected


def _command(environment: Path, name: str, interpreter: Path | str) -> None:
    (environment / "bin" / name).write_text(f"#!{interpreter}\nimport x\n", encoding="utf-8")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment with the command in it, in a place that has a twin."""
    environment = tmp_path / "co" / ".venv"
    venv.create(environment, symlinks=True)
    _command(environment, "ropewalk", environment / "bin/python")
    return environment


def _verdict(environment: Path, wanted: str | None = None) -> str | None:
    return why_anew(environment, interpreter_of(environment), wanted)


def test_a_good_environment_is_gone_on_with(environment: Path) -> None:
    interpreter = interpreter_of(environment)
    assert interpreter is not None
    assert interpreter.version == VERSION
    assert interpreter.site == environment / "lib" / f"python{VERSION}" / "site-packages"
    assert _verdict(environment) is None
    assert _verdict(environment, VERSION) is None


def test_another_python_asked_for_is_a_reason(environment: Path) -> None:
    assert _verdict(environment, "3.99") == f"$PYTHON is Python 3.99 and .venv has {VERSION}"


def test_a_copy_is_not_taken_for_its_original(environment: Path, tmp_path: Path) -> None:
    copy = tmp_path / "co2" / ".venv"
    shutil.copytree(environment, copy, symlinks=True)
    assert interpreter_of(copy) is not None  # it runs; but its commands are the original's
    assert "copied or moved" in (_verdict(copy) or "")
    assert _verdict(environment) is None
    (copy / "bin/ropewalk").unlink()
    _command(copy, "pip", environment / "bin" / f"python{VERSION}")
    assert "copied or moved" in (_verdict(copy) or "")


def test_a_path_that_does_not_fit_a_first_line_is_read_from_the_second(environment: Path) -> None:
    python = environment / "bin/python"
    for name, quoted in (("ropewalk", f'"{python}"'), ("pip", str(python))):
        text = f"#!/bin/sh\n'''exec' {quoted} \"$0\" \"$@\"\n' '''\nimport x\n"
        (environment / "bin" / name).write_text(text, encoding="utf-8")
    assert _verdict(environment) is None


def test_a_python_that_changed_under_the_environment_is_seen(environment: Path) -> None:
    config = environment / "pyvenv.cfg"
    config.write_text("home = x\nversion = 3.9.2\n", encoding="utf-8")
    assert interpreter_of(environment) is None
    assert "gone or is another version" in (_verdict(environment) or "")
    config.unlink()
    assert interpreter_of(environment) is None
    shutil.rmtree(environment)
    assert interpreter_of(environment) is None


def test_the_pointer_to_the_source_says_whose_it_is(tmp_path: Path) -> None:
    root, site = tmp_path / "co", tmp_path / "site"
    site.mkdir()
    assert not leads_to(site, root)
    pointer = site / "_ropewalk.pth"
    pointer.write_text(f"{root / 'app'}\n{root / 'converters'}", encoding="utf-8")
    assert leads_to(site, root)
    assert not leads_to(site, tmp_path / "co2")
    assert not leads_to(site, tmp_path / "c")
    pointer.write_text("", encoding="utf-8")
    assert not leads_to(site, root)


@pytest.mark.parametrize(("extras", "suffix"), [((), ""), (("dev", "plot"), "[dev,plot]")])
def test_the_project_is_installed_from_a_wheel_built_with_the_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extras: tuple[str, ...], suffix: str
) -> None:
    tools = Tools(tmp_path / "tools", tmp_path / "log")
    installed: list[list[str]] = []

    def build(command: list[str | Path], *_: object, folder: Path) -> None:
        assert command[0] == tools.python  # which has hatchling, where the environment has not
        assert folder == tmp_path
        (Path(command[-1]) / "ropewalk-0.1.0-py3-none-any.whl").touch()

    def install(_: Tools, __: Path, arguments: list[str], *___: object, **____: object) -> None:
        installed.append(arguments)

    monkeypatch.setattr(project, "run_logged", build)
    monkeypatch.setattr(project, "pip_install", install)
    (tmp_path / ".build/editable").mkdir(parents=True)
    (tmp_path / ".build/editable/ropewalk-0.0.1-py3-none-any.whl").touch()  # of an earlier run
    project.install_project(tools, tmp_path / "python", tmp_path, extras, ["click"])
    wheel = "./.build/editable/ropewalk-0.1.0-py3-none-any.whl"
    assert installed == [
        [wheel + suffix, "click"],
        ["--no-deps", "--no-index", "--force-reinstall", wheel],
    ]


def test_a_look_takes_little_time(tmp_path: Path) -> None:
    """Only that no package is imported, which would take seconds with the tests' own."""
    root = Path(__file__).resolve().parents[1]
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from provision.installed import damaged\nfrom provision.environment import set_up\n"
        "damaged(Path(sys.argv[1]))\n"
        "print([name for name in ('click', 'numpy', 'pip', 'llama_cpp') if name in sys.modules])\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={"PYTHONPATH": str(root / "scripts")},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert finished.stdout == "[]\n"
