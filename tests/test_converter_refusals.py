"""What the interpreter refuses once a checkpoint is being converted, however it comes about."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cli_running import environment

_GUARDED = """
    import sys
    from pathlib import Path
    from ropewalk_convert.converter_refusals import guard_interpreter
    checkpoint = Path(sys.argv[1])
    guard_interpreter(checkpoint)
"""


def run_guarded(checkpoint: Path, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that guards against a checkpoint."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_GUARDED) + textwrap.dedent(code), str(checkpoint)],
        capture_output=True,
        text=True,
        env={**environment(), **more},
        check=False,
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One whose files are links, as in the cache of the hub."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    folder.mkdir()
    (blobs / "0123").write_text("print('executed')")
    (folder / "evil.py").symlink_to(blobs / "0123")
    return folder


@pytest.mark.parametrize(
    "code",
    [
        "sys.path.insert(0, str(checkpoint)); import evil",
        "import runpy; runpy.run_path(str(checkpoint / 'evil.py'))",
        "import os; os.chdir(checkpoint); sys.path.insert(0, ''); import evil",
        "import os; os.chdir(checkpoint); exec(compile(Path('evil.py').read_text(), 'evil.py', 'exec'))",
        """
        import importlib.util
        spec = importlib.util.spec_from_file_location("x", checkpoint / "evil.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        """,
        "import ctypes; ctypes.CDLL(str(checkpoint / 'evil.py'))",
    ],
)
def test_code_of_the_checkpoint(checkpoint: Path, code: str) -> None:
    ended = run_guarded(checkpoint, code)
    assert "CheckpointCodeError" in ended.stderr.splitlines()[-1]
    assert "executed" not in ended.stdout


def test_code_that_was_copied_to_where_transformers_keeps_it(checkpoint: Path, tmp_path: Path) -> None:
    modules = tmp_path / "home" / "modules"
    modules.mkdir(parents=True)
    (modules / "copied.py").write_text("print('executed')")
    for more in ({"HF_HOME": str(tmp_path / "home")}, {"HF_MODULES_CACHE": str(modules)}):
        ended = run_guarded(checkpoint, f"sys.path.insert(0, {str(modules)!r}); import copied", **more)
        assert "CheckpointCodeError" in ended.stderr.splitlines()[-1]
        assert "executed" not in ended.stdout


def test_an_environment_inside_the_checkpoints_folder_still_works(checkpoint: Path) -> None:
    own = checkpoint / ".venv" / "site-packages"
    own.mkdir(parents=True)
    (own / "helpful.py").write_text("print('executed')")
    ended = run_guarded(checkpoint, "import helpful", PYTHONPATH=f"{environment()['PYTHONPATH']}:{own}")
    assert ended.stdout == "executed\n", ended.stderr


def test_a_checkpoint_that_is_on_the_path_before(checkpoint: Path) -> None:
    ended = run_guarded(checkpoint, "import evil", PYTHONPATH=f"{environment()['PYTHONPATH']}:{checkpoint}")
    assert "CheckpointCodeError" in ended.stderr.splitlines()[-1]
    assert "executed" not in ended.stdout


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo executed",)


def test_pickles_that_look_up_what_they_call(checkpoint: Path) -> None:
    (checkpoint / "a.bin").write_bytes(pickle.dumps(_Runs()))
    for module in ("pickle", "_pickle"):
        ended = run_guarded(checkpoint, f"import {module}; {module}.load((checkpoint / 'a.bin').open('rb'))")
        assert "PickleRefusedError: a pickle asks for posix.system" in ended.stderr
        assert "executed" not in ended.stdout


def test_the_network(checkpoint: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = json.dumps(server.getsockname())
        code = f"import socket; socket.create_connection(tuple({address}))"
        assert "NetworkRefusedError" in run_guarded(checkpoint, code).stderr.splitlines()[-1]
        assert "NetworkRefusedError" in run_guarded(checkpoint, code.replace("127.0.0.1", "localhost")).stderr
