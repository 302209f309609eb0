"""The model process: it dies alone, never outlives its owner, and its messages cannot be disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ropewalk.engine import (
    Engine,
    EngineDied,
    EngineError,
    EngineOptions,
    EngineTimeout,
    Patience,
    client,
    process,
)
from ropewalk.engine.connection import Connection, ConnectionLost
from ropewalk.engine.messages import Hello, Tokenize
from ropewalk.engine.process import ModelProcess
from tiny_models import write_tiny_model

OPTIONS = EngineOptions(n_ctx=512, threads=1)
_PATIENCE = 20.0


def _is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while _is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


@pytest.fixture
def engine(tiny_llama: Path) -> Iterator[Engine]:
    with Engine.start() as started:
        started.load(tiny_llama, OPTIONS)
        yield started


def test_a_closed_engine_leaves_no_process(engine: Engine) -> None:
    assert _is_running(engine.pid)
    engine.close()
    engine.close()

    assert not _is_running(engine.pid)
    with pytest.raises(EngineDied, match="was closed"):
        engine.tokenize("a")


def test_a_killed_process_is_reported(engine: Engine) -> None:
    os.kill(engine.pid, signal.SIGKILL)

    with pytest.raises(EngineDied) as caught:
        engine.tokenize("a")
    assert str(caught.value) == (
        "the model process was killed by SIGKILL, perhaps because memory ran out: start it again"
    )
    with pytest.raises(EngineDied):
        engine.prefill([1])


def test_a_process_killed_at_work_is_reported(engine: Engine) -> None:
    engine.prefill([5] * 10)
    generation = engine.generate(400, stop_at_eog=False)
    next(generation)
    os.kill(engine.pid, signal.SIGKILL)

    with pytest.raises(EngineDied):
        for _ in generation:
            pass
    with pytest.raises(EngineDied):
        engine.tokenize("a")


def test_an_abort_in_native_code_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """A rotation of part of the head makes llama.cpp assert, that is abort, when the graph is built."""
    path = write_tiny_model(tmp_path / "partial.gguf", arch="qwen2", rope_dim=8).path
    with Engine.start() as engine:
        with pytest.raises(EngineDied) as caught:
            engine.load(path, OPTIONS)
        assert caught.value.reason == "was killed by SIGABRT"
        assert "GGML_ASSERT(n_embd_head == n_rot) failed" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_process_that_does_not_come_up_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[ModelProcess] = []

    class Watched(ModelProcess):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    monkeypatch.setattr(client, "ModelProcess", Watched)

    with pytest.raises(EngineTimeout, match=r"did not come up within 0\.01 seconds"):
        Engine.start(Patience(start_seconds=0.01))
    assert not _is_running(started[0].pid)


def test_a_process_that_hangs_is_ended_by_close(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_SHUTDOWN_SECONDS", 0.5)
    os.kill(engine.pid, signal.SIGSTOP)
    engine.close()

    assert not _is_running(engine.pid)


def test_close_ends_what_another_thread_waits_for(engine: Engine) -> None:
    engine.resize(50_000)
    failures: list[BaseException] = []

    def read() -> None:
        try:
            if engine.prefill([5] * 50_000).cancelled:
                failures.append(EngineDied("cancelled"))
        except EngineDied as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.3)
    engine.close()
    thread.join(_PATIENCE)

    assert not thread.is_alive()
    assert len(failures) == 1
    assert not _is_running(engine.pid)


def _script(body: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "owner.py"
    path.write_text(textwrap.dedent(body))
    return [sys.executable, str(path)]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


OWNER = """
    import sys, time
    from pathlib import Path
    from ropewalk.engine import Engine, EngineOptions

    engine = Engine.start()
    engine.load(Path(sys.argv[1]), EngineOptions(n_ctx=100_000, threads=1, batch_size=64, ubatch_size=64))
    print(engine.pid, flush=True)
"""


def test_the_process_ends_when_its_owner_is_killed(tiny_llama: Path, tmp_path: Path) -> None:
    body = (
        OWNER
        + """
    engine.prefill([5] * 100_000, lambda done, total: done >= 128 and print("reading", flush=True))
    """
    )
    owner = subprocess.Popen(
        [*_script(body, tmp_path), str(tiny_llama)], stdout=subprocess.PIPE, text=True, env=_environment()
    )
    assert owner.stdout is not None
    with owner:
        pid = int(owner.stdout.readline())
        assert owner.stdout.readline() == "reading\n"
        owner.kill()

    _wait_until_gone(pid)


def test_the_process_ends_with_an_owner_that_forgot_it(tiny_llama: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*_script(OWNER, tmp_path), str(tiny_llama)],
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=60,
        check=True,
    )

    _wait_until_gone(int(done.stdout))
    assert done.stderr == ""


def test_ctrl_c_reaches_the_owner_alone_and_leaves_the_engine_usable(
    tiny_llama: Path, tmp_path: Path
) -> None:
    body = (
        OWNER
        + """
    tokens = [5] * 90_000
    def reading(done, total):
        if done == 256:
            print("reading", flush=True)
    try:
        engine.prefill(tokens, reading)
    except KeyboardInterrupt:
        print("\\ninterrupted", flush=True)
    held = engine.prefill(tokens[:200]).cached_tokens
    print("held", held, "answered", len(list(engine.generate(3, stop_at_eog=False))) > 0, flush=True)
    engine.close()
    """
    )
    owner = subprocess.Popen(
        [*_script(body, tmp_path), str(tiny_llama)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        start_new_session=True,
    )
    assert owner.stdout is not None
    with owner:
        pid = int(owner.stdout.readline())
        assert owner.stdout.readline() == "reading\n"
        os.killpg(owner.pid, signal.SIGINT)  # as a terminal does
        rest, errors = owner.communicate(timeout=60)

    assert errors == ""
    assert rest.splitlines()[-2:] == ["interrupted", "held 199 answered True"]
    assert owner.returncode == 0
    _wait_until_gone(pid)


def test_nothing_is_printed_by_the_owner(
    tiny_llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Engine.start() as engine:
        engine.load(tiny_llama, OPTIONS)
        engine.prefill(engine.tokenize("the rope"))
        list(engine.generate(5))
        with pytest.raises(EngineError):
            engine.load(tmp_path / "none.gguf", OPTIONS)

    assert capfd.readouterr() == ("", "")


def test_stray_output_cannot_disturb_the_messages(tiny_llama: Path) -> None:
    """Prints from Python and writes to descriptor 1 end up in the log, not among the events."""
    noisy = textwrap.dedent("""
        import os, sys
        sys.path[:] = [p for p in sys.path if p]
        from ropewalk.engine import child
        def noise(take):
            streams = take()
            print("noise from python", flush=True)
            os.write(1, b"noise from below\\n")
            assert sys.stdin.read() == ""
            return streams
        take = child._take_standard_streams
        child._take_standard_streams = lambda: noise(take)
        child.main()
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", noisy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=_environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    garbage: list[str] = []
    with process:
        connection = Connection(process.stdin, process.stdout, garbage.append)
        assert isinstance(connection.receive(_PATIENCE), Hello)
        connection.send(Tokenize(1, "a", True, False))
        assert connection.receive(_PATIENCE).id == 1  # "no model is loaded", but an answer
        connection.close()
        with pytest.raises(ConnectionLost):
            connection.receive(_PATIENCE)
        log = process.stderr.read()

    assert garbage == []
    assert log == b"noise from python\nnoise from below\n"


def test_what_is_no_message_ends_the_process_with_a_reason() -> None:
    with Engine.start() as engine:
        engine._process.requests.write(b"hello there\n")
        with pytest.raises(EngineDied, match=r"exit code 70 \(bad request: not JSON: b'hello there"):
            engine.tokenize("a")


def test_a_module_in_the_current_directory_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)

    Engine.start().close()
