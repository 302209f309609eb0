"""A model process that hangs is ended and named, at every stage; one that only takes long is left alone."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ropewalk.engine import Engine, EngineDied, EngineOptions, EngineTimeout, Patience, process
from ropewalk.engine.patience import Signs, Watch
from ropewalk.engine.pulse import moved_blocks

OPTIONS = EngineOptions(n_ctx=512, threads=1)
SIGNS_WANTED = Patience(silence_seconds=1.5)
SILENT = "gave no sign of life for 1.5 seconds and was ended"
MOVES_WANTED = Patience(stall_seconds=0.7)
STALLED = "has not moved on for 0.7 seconds and was ended"

# The real server loop with a worker of its own; `stuck` is native code that never returns.
CHILD = """
    import sys; sys.path[:] = [p for p in sys.path if p]
    import ctypes, os, time
    from ropewalk.engine import child, pulse
    from ropewalk.engine.results import ModelDescription, PrefillResult
    from ropewalk.engine.worker import Worker

    stuck = ctypes.CDLL(None).pause  # lets other threads run
    frozen = ctypes.PyDLL(None).pause  # does not
    pulse.Pulse.__init__.__defaults__ = (0.1,)  # seconds between two signs of life
    print("about to begin", file=sys.stderr, flush=True)
"""


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lines to be added to the model process's program."""
    lines: list[str] = []

    class Scripted(process.ModelProcess):
        def __init__(self) -> None:
            program = "\n".join([textwrap.dedent(CHILD), *lines, "child.main()"])
            monkeypatch.setattr(process, "_START", program)
            super().__init__()

    monkeypatch.setattr("ropewalk.engine.client.ModelProcess", Scripted)
    yield lines


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _ended(engine: Engine, error: EngineDied, reason: str) -> None:
    """All that holds once a process was ended."""
    assert error.reason == reason
    assert str(error) == f"the model process {reason}: start it again"
    assert _is_gone(engine.pid)
    for _ in range(2):
        with pytest.raises(EngineDied) as caught:
            engine.tokenize("a")
        assert caught.value.reason == reason
        assert caught.value.log == error.log
    engine.close()
    engine.close()


@pytest.mark.usefixtures("scripted")
def test_a_process_stopped_in_the_middle_of_reading_is_ended(tiny_llama: Path) -> None:
    with Engine.start(SIGNS_WANTED) as engine:
        engine.load(tiny_llama, EngineOptions(n_ctx=60_000, threads=1, batch_size=64, ubatch_size=64))

        def stop(done: int, _total: int) -> None:
            if done == 128:
                os.kill(engine.pid, signal.SIGSTOP)

        with pytest.raises(EngineTimeout) as caught:
            engine.prefill([5] * 60_000, stop)
        _ended(engine, caught.value, SILENT)
    with Engine.start() as engine:  # and another may be started
        assert engine.load(tiny_llama, OPTIONS).n_ctx == 512


@pytest.mark.usefixtures("scripted")
def test_a_process_stopped_while_it_waited_is_ended_by_the_next_request(tiny_llama: Path) -> None:
    with Engine.start(SIGNS_WANTED) as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        with pytest.raises(EngineTimeout) as caught:
            engine.load(tiny_llama, OPTIONS)
        _ended(engine, caught.value, SILENT)


@pytest.mark.usefixtures("scripted")
def test_an_answer_that_is_left_behind_in_a_stopped_process_does_not_keep_its_owner(tiny_llama: Path) -> None:
    with Engine.start(SIGNS_WANTED) as engine:
        engine.load(tiny_llama, OPTIONS)
        engine.prefill([5] * 10)
        generation = engine.generate(400, stop_at_eog=False)
        next(generation)
        os.kill(engine.pid, signal.SIGSTOP)
        generation.close()
        with pytest.raises(EngineDied, match=SILENT):
            engine.tokenize("a")


@pytest.mark.parametrize(
    ("body", "patience", "reason"),
    [
        ("stuck()", MOVES_WANTED, STALLED),
        ("frozen()", SIGNS_WANTED, SILENT),
        ("(args[2](0.5), stuck())", MOVES_WANTED, STALLED),
    ],
    ids=["native", "native-with-the-lock", "after-progress"],
)
def test_loading_that_never_ends_is_ended(
    scripted: list[str], tiny_llama: Path, body: str, patience: Patience, reason: str
) -> None:
    scripted.append(f"Worker.load = lambda self, *args: {body}")
    with Engine.start(patience) as engine:
        with pytest.raises(EngineTimeout) as caught:
            engine.load(tiny_llama, OPTIONS)
        assert caught.value.log == ("about to begin",)
        _ended(engine, caught.value, reason)


def test_native_code_that_never_returns_is_ended_whatever_is_asked(
    scripted: list[str], tiny_llama: Path
) -> None:
    scripted.append("Worker.tokenize = lambda self, *args, **options: stuck()")
    with Engine.start(MOVES_WANTED) as engine:
        engine.load(tiny_llama, OPTIONS)
        with pytest.raises(EngineTimeout) as caught:
            engine.tokenize("a")
        _ended(engine, caught.value, STALLED)


def test_a_process_that_closes_its_output_is_ended(
    scripted: list[str], tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_REAP_SECONDS", 0.5)
    scripted.append("Worker.load = lambda self, *args: (os.closerange(3, 100), frozen())")
    with Engine.start() as engine:
        with pytest.raises(EngineDied) as caught:
            engine.load(tiny_llama, OPTIONS)
        assert caught.value.reason == "closed its output and hung"
        assert _is_gone(engine.pid)


@pytest.mark.usefixtures("scripted")
def test_a_process_that_not_even_a_kill_ends_does_not_keep_its_owner(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that waits for a driver or a disk that is gone."""
    monkeypatch.setattr(process, "_REAP_SECONDS", 0.2)
    monkeypatch.setattr(process, "_SHUTDOWN_SECONDS", 0.2)
    monkeypatch.setattr(process, "_TERMINATE_SECONDS", 0.2)
    engine = Engine.start(SIGNS_WANTED)
    popen = engine._process._popen
    kill = popen.kill
    monkeypatch.setattr(popen, "kill", lambda: None)
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineTimeout, match=SILENT):
        engine.load(tiny_llama, OPTIONS)
    engine.close()
    assert popen.poll() is None
    kill()
    popen.wait()


def test_a_process_that_never_comes_up_is_ended(scripted: list[str]) -> None:
    scripted.append("stuck()")
    with pytest.raises(EngineTimeout) as caught:
        Engine.start(Patience(start_seconds=0.5))
    assert caught.value.reason == "did not come up within 0.5 seconds and was ended"


def test_work_that_takes_long_and_goes_on_is_left_alone(scripted: list[str], tiny_llama: Path) -> None:
    """No event of its own for twice as long as a stall may last."""
    scripted += [
        "def prefill(self, tokens, *others):",
        "    for _ in range(20):",
        "        time.sleep(0.1); self._should_stop()",
        "    return PrefillResult(len(tokens), 0, 2.0)",
        "Worker.prefill = prefill",
    ]
    with Engine.start(MOVES_WANTED) as engine:
        engine.load(tiny_llama, OPTIONS)
        assert engine.prefill([5, 6]).prompt_tokens == 2
        assert engine.tokenize("a")


def test_a_disk_at_work_is_waited_for(scripted: list[str], tiny_llama: Path) -> None:
    """Loading maps a file in one call: no progress, but blocks that come in."""
    scripted += [
        "def tokenize(self, *args, **options):",
        "    pulse.moved_blocks = lambda: int(time.monotonic() * 1000)",
        "    time.sleep(1.5)",
        "    return [1, 2]",
        "Worker.tokenize = tokenize",
    ]
    with Engine.start(MOVES_WANTED) as engine:
        engine.load(tiny_llama, OPTIONS)
        assert engine.tokenize("a") == [1, 2]


def test_blocks_are_counted_as_the_system_does(tmp_path: Path) -> None:
    def told_by_the_system() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        numbers = {name: int(number) for name, number in (line.split(": ") for line in lines)}
        return (numbers["read_bytes"] + numbers["write_bytes"]) // 512

    before, told_before = moved_blocks(), told_by_the_system()
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    after, told_after = moved_blocks(), told_by_the_system()

    assert after - before == told_after - told_before


def test_signs_of_life_never_disturb_the_answers(scripted: list[str], tiny_llama: Path) -> None:
    """One every millisecond: each request has its own final event, and nothing follows it."""
    scripted += ["pulse.Pulse.__init__.__defaults__ = (0.001,)"]
    with Engine.start() as engine:
        engine.load(tiny_llama, OPTIONS)
        text = "the thing is in the rope "
        tokens = engine.tokenize(text)
        for _ in range(200):
            assert engine.tokenize(text) == tokens
        engine.prefill(tokens)
        generation = engine.generate(200, stop_at_eog=False)
        assert sum(1 for _ in generation) > 0
        assert generation.result.tokens == 200
        assert engine._exchange._connection.signs.heard > engine._exchange._connection.signs.moved


def test_time_in_which_the_owner_was_stopped_does_not_count() -> None:
    """Only slices that were waited do, however long ago the last sign came by the clock."""
    patience = Patience(silence_seconds=4.0, stall_seconds=8.0)
    watch = Watch(patience, Signs(0, 0))
    told = []
    for _ in range(3):
        told.append(watch.waited(Signs(0, 0)))
    assert told == [None, None, None]
    assert watch.waited(Signs(1, 0)) is None  # a heartbeat whose count is the same
    assert [watch.waited(Signs(i, 0)) for i in range(2, 5)] == [None, None, None]
    assert watch.waited(Signs(5, 0)) == "has not moved on for 8 seconds and was ended"
    assert watch.waited(Signs(6, 1)) is None
    assert [watch.waited(Signs(6, 1)) for _ in range(4)][-1] == (
        "gave no sign of life for 4 seconds and was ended"
    )


@pytest.mark.parametrize("name", ["start_seconds", "silence_seconds", "stall_seconds"])
def test_patience_is_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; it must be more than 0"):
        Patience(**{name: 0})
